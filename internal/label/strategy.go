package label

import (
	"encoding/json"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// The strategies that a user may ask for.
const (
	Auto     = "auto"
	Rolling  = "rolling"
	Restart  = "restart"
	BySignal = "signal"
	ByExec   = "exec"
	None     = "none"
)

// Strategies lists them in the order of the documentation.
var Strategies = []string{Auto, Rolling, Restart, BySignal, ByExec, None}

// The orders of Docker and Compose (deploy.update_config.order).
const (
	StartFirst = "start-first"
	StopFirst  = "stop-first"
)

// StrategyOf returns the strategy that labels ask for, which may be none that exists.
// get returns one label, empty when it is absent.
func StrategyOf(get func(label string) string) string {
	strategy := get(Strategy)
	if strategy != "" && strategy != Auto {
		return strategy
	}
	switch get(Order) {
	case StartFirst:
		return Rolling
	case StopFirst:
		return Restart
	}
	return Auto
}

// DefaultSignal is what programs read their configuration anew at.
const DefaultSignal = "SIGHUP"

// Why a signal or a command cannot be one. They do not quote it: it may come from a
// variable of a configuration.
var (
	errSignal     = errors.New("is no signal, such as SIGHUP")
	errUnanswered = errors.New("is a signal that no process can answer")
	errCommand    = errors.New(`is no command: a line for the shell, or a JSON list such as ["nginx", "-s", "reload"]`)
)

// ParseSignal returns a signal's full name, of the name with or without its SIG.
func ParseSignal(text string) (string, error) {
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	switch n := unix.SignalNum(name); n {
	case 0:
		return "", errSignal
	case unix.SIGKILL, unix.SIGSTOP:
		return "", errUnanswered
	default:
		return unix.SignalName(n), nil
	}
}

// ParseCommand returns the words of a command, as an image's CMD has them: a JSON list,
// or a line that is for the shell to read.
func ParseCommand(text string) (words []string, line string, err error) {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "[") {
		if text == "" {
			return nil, "", errCommand
		}
		return nil, text, nil
	}
	if json.Unmarshal([]byte(text), &words) != nil || len(words) == 0 || words[0] == "" {
		return nil, "", errCommand
	}
	return words, "", nil
}
