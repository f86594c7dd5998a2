package cli

import (
	"errors"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// The options of all commands take what can be meant only: a name that is empty would mean
// everything, and a number or a time below nothing means nothing.

// nameVar is an option that names something, such as a secret.
func nameVar(fs *pflag.FlagSet, p *string, name, usage string) { fs.Var((*nameValue)(p), name, usage) }

// countVar is an option that says how many.
func countVar(fs *pflag.FlagSet, p *int, name, short, usage string) {
	fs.VarP((*countValue)(p), name, short, usage)
}

// lengthVar is an option that says how long.
func lengthVar(fs *pflag.FlagSet, p *time.Duration, name, usage string) {
	fs.Var((*lengthValue)(p), name, usage)
}

type nameValue string

func (v *nameValue) Set(text string) error {
	if text == "" {
		return errors.New("it names nothing: leave the option out to mean all")
	}
	*v = nameValue(text)
	return nil
}

func (v *nameValue) String() string { return string(*v) }
func (v *nameValue) Type() string   { return "string" }

type countValue int

func (v *countValue) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("it is a number from 0 on")
	}
	*v = countValue(n)
	return nil
}

func (v *countValue) String() string { return strconv.Itoa(int(*v)) }
func (v *countValue) Type() string   { return "int" }

type lengthValue time.Duration

func (v *lengthValue) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("it is a length of time such as 90s or 24h")
	}
	*v = lengthValue(d)
	return nil
}

func (v *lengthValue) String() string { return time.Duration(*v).String() }
func (v *lengthValue) Type() string   { return "duration" }
