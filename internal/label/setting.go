package label

import (
	"errors"
	"strconv"
	"time"
)

// Why a setting cannot be one.
var (
	errDuration = errors.New("is not a duration such as 30s")
	errCount    = errors.New("is not a number of containers")
	errSwitch   = errors.New("is neither true nor false")
)

// ParseDuration reads a duration that is not negative.
func ParseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errDuration
	}
	return d, nil
}

// ParseCount reads a number of containers.
func ParseCount(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, errCount
	}
	return int(n), nil
}

// ParseSwitch reads true or false.
func ParseSwitch(text string) (bool, error) {
	if text != "true" && text != "false" {
		return false, errSwitch
	}
	return text == "true", nil
}

// Check says why the text of a label with a setting cannot be read, as whoever acts on
// the label would. An empty one is the default.
func Check(name, text string) (err error) {
	if text == "" {
		return nil
	}
	switch name {
	case Health, Drain, Monitor, Delay:
		_, err = ParseDuration(text)
	case AtOnce:
		_, err = ParseCount(text)
	case Reloader:
		_, err = ParseSwitch(text)
	}
	return err
}
