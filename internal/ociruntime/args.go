package ociruntime

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Options are dso-runtime's own, given as --dso-… before anything else (in
// daemon.json: runtimeArgs). All have defaults.
type Options struct {
	Runtime  string        // the real runtime, a path or a name on PATH
	Socket   string        // the agent's
	Private  string        // the private tmpfs
	Targets  string        // the rules of dso.yaml, which the agent writes
	Deadline time.Duration // for the agent to answer
}

// call is what the engine asks the runtime to do.
type call struct {
	args    []string // all arguments of the real runtime
	command string   // create, exec, …; empty when there is none
	at      int      // index of the command in args
	log     string   // value of the global --log
	// operand indexes, into args, of the option values that are rewritten;
	// -1 when absent.
	bundle, process int
	id              string // first argument that is not an option
}

// globalOptions and commandOptions are runc's options that take a value; all
// others are switches. From runc(8), runc-create(8), runc-exec(8), runc-run(8).
var (
	globalOptions  = words("log log-format root criu rootless")
	commandOptions = words("bundle b console-socket pid-file preserve-fds process p cwd env e user u additional-gids g cap c process-label apparmor pidfd-socket cgroup")
)

func words(s string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		m[w] = true
	}
	return m
}

// parseOptions takes the leading --dso- options off the arguments. With an error
// it returns the arguments from the wrong one on.
func parseOptions(args []string, o Options) (Options, []string, error) {
	for len(args) > 0 {
		name, value, ok := strings.Cut(args[0], "=")
		if !strings.HasPrefix(name, "--dso-") {
			break
		}
		if !ok {
			return o, args, fmt.Errorf("option %s needs a value: %s=…", name, name)
		}
		switch name {
		case "--dso-runtime":
			o.Runtime = value
		case "--dso-socket":
			o.Socket = value
		case "--dso-private":
			o.Private = value
		case "--dso-targets":
			o.Targets = value
		case "--dso-deadline":
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return o, args, fmt.Errorf("option %s=%q is not a duration such as 10s", name, value)
			}
			o.Deadline = d
		default:
			return o, args, fmt.Errorf("unknown option %s; there are --dso-runtime, --dso-socket, --dso-private, --dso-targets and --dso-deadline", name)
		}
		args = args[1:]
	}
	return o, args, nil
}

// parseCall understands runc's command line as far as it matters.
func parseCall(args []string) call {
	c := call{args: args, bundle: -1, process: -1}
	takesValue := globalOptions
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if c.command == "" {
				c.command, c.at, takesValue = arg, i, commandOptions
				continue
			}
			c.id = arg // what follows the id is the command of an exec
			return c
		}
		if arg == "--" {
			if i+1 < len(args) {
				c.id = args[i+1]
			}
			return c
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		at := i
		if !inline {
			if !takesValue[name] || i+1 >= len(args) {
				continue
			}
			i++
			at, value = i, args[i]
		}
		c.note(name, value, at)
	}
	return c
}

func (c *call) note(name, value string, at int) {
	switch {
	case c.command == "" && name == "log":
		c.log = value
	case c.command == "create" || c.command == "run":
		if name == "bundle" || name == "b" {
			c.bundle = at
		}
	case c.command == "exec":
		if name == "process" || name == "p" {
			c.process = at
		}
	}
}

// operand returns the value at an index that note found.
func (c *call) operand(i int) string {
	if _, value, inline := strings.Cut(c.args[i], "="); inline && strings.HasPrefix(c.args[i], "-") {
		return value
	}
	return c.args[i]
}

// withBundle returns the arguments with an option --bundle that was not there.
func (c *call) withBundle(dir string) []string {
	return slices.Insert(slices.Clone(c.args), c.at+1, "--bundle", dir)
}

// replace returns the arguments with the operand at index i replaced.
func (c *call) replace(i int, value string) []string {
	args := append([]string(nil), c.args...)
	if name, _, inline := strings.Cut(args[i], "="); inline && strings.HasPrefix(args[i], "-") {
		value = name + "=" + value
	}
	args[i] = value
	return args
}
