package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// maxValue bounds what is read as a value, in bytes; the vault's own limit is
// lower and gives the better error.
const maxValue = 64 << 20

// valueSource says where a value comes from.
type valueSource struct {
	file       string
	allowEmpty bool
}

func (s *valueSource) flags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&s.file, "file", "f", "", `read the value from a file ("-": standard input)`)
	cmd.Flags().BoolVar(&s.allowEmpty, "allow-empty", false, "store an empty value")
}

// read returns the value, byte by byte as it came.
func (s *valueSource) read(a *app, name string) ([]byte, error) {
	switch {
	case s.file == "" && terminal(a.in):
		return prompt(a.err, name)
	case s.file == "" || s.file == "-":
		return readAll(a.in, "standard input")
	}
	f, err := os.Open(s.file)
	if err != nil {
		return nil, withHint(fmt.Errorf("read the value of %s: %w", name, err), "without --file it is asked for, or read from standard input")
	}
	defer func() { _ = f.Close() }()
	return readAll(f, s.file)
}

func readAll(r io.Reader, from string) ([]byte, error) {
	value, err := io.ReadAll(io.LimitReader(r, maxValue+1))
	if err != nil {
		return nil, fmt.Errorf("read the value from %s: %w", from, err)
	}
	if len(value) > maxValue {
		return nil, fmt.Errorf("the value from %s is longer than %d bytes", from, maxValue)
	}
	return value, nil
}

// prompt asks twice without echo, on the terminal itself.
func prompt(w io.Writer, name string) ([]byte, error) {
	first, err := ask(w, "Value of "+name+": ")
	if err != nil {
		return nil, err
	}
	second, err := ask(w, "Once more: ")
	if err != nil {
		return nil, err
	}
	if string(first) != string(second) {
		return nil, usageError("the two entries differ; nothing was stored")
	}
	return first, nil
}

// answered waits for what a person answers, or for Ctrl-C. The process does not die of it:
// docker would make an exit code of its own of that, and a terminal without echo would stay
// so.
func answered[T any](read func() (T, error)) (answer T, err error) {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)
	done := make(chan struct{})
	var typed T
	var failed error
	go func() {
		defer close(done)
		typed, failed = read()
	}()
	select {
	case <-done:
		return typed, failed
	case <-interrupted: // whoever reads still does so until the process ends
		return answer, errInterrupted
	}
}

// line reads the answer to a question. An end of the input is an empty one.
func (a *app) line(question string) (string, error) {
	_, _ = fmt.Fprint(a.err, question)
	text, err := answered(func() (string, error) {
		text, _ := bufio.NewReader(a.in).ReadString('\n')
		return text, nil
	})
	if err != nil {
		_, _ = fmt.Fprintln(a.err)
	}
	return text, err
}

func ask(w io.Writer, question string) ([]byte, error) {
	_, _ = fmt.Fprint(w, question)
	fd := int(os.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("read from the terminal: %w", err)
	}
	value, err := answered(func() ([]byte, error) { return term.ReadPassword(fd) })
	_, _ = fmt.Fprintln(w)
	if errors.Is(err, errInterrupted) {
		_ = term.Restore(fd, before) // with its echo
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read from the terminal: %w", err)
	}
	return value, nil
}
