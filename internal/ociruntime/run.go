package ociruntime

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/private"
	"github.com/docker-secret-operator/dso/internal/target"
)

// Main runs the runtime with the arguments after the program's name and returns
// the exit code. It does not return when it becomes the real runtime.
func Main(args []string) int {
	opts, args, err := parseOptions(args, Options{
		Runtime: "runc", Socket: wire.RuntimeSocket, Private: private.Dir, Targets: target.File, Deadline: 10 * time.Second,
	})
	c := parseCall(args)
	if err != nil {
		return refuse(c, err)
	}
	runtime, err := exec.LookPath(opts.Runtime)
	if err != nil {
		return refuse(c, fmt.Errorf("find the real runtime: %w", err))
	}
	ours, err := prepare(opts, c)
	if err != nil {
		return refuse(c, err)
	}
	if ours == nil {
		err = syscall.Exec(runtime, append([]string{runtime}, args...), os.Environ())
		return refuse(c, fmt.Errorf("execute %s: %w", runtime, err))
	}
	code, err := execute(runtime, ours.args)
	if err = errors.Join(err, ours.bundle.Remove()); err != nil {
		return refuse(c, err)
	}
	return code
}

// rewritten is a command line of the real runtime that reads from a directory
// of ours.
type rewritten struct {
	bundle *private.Bundle
	args   []string
}

// prepare returns nil when the call is none of our business.
func prepare(o Options, c call) (*rewritten, error) {
	switch {
	case c.command == "create" || c.command == "run":
		bundle := "."
		if c.bundle >= 0 {
			bundle = c.operand(c.bundle)
		}
		return prepareBundle(o, c, bundle)
	case c.process >= 0:
		return prepareProcess(o, c)
	}
	return nil, nil
}

func prepareBundle(o Options, c call, bundle string) (*rewritten, error) {
	bundle, err := filepath.Abs(bundle)
	if err != nil {
		return nil, err
	}
	rules, err := target.Load(o.Targets)
	if err != nil {
		return nil, err
	}
	config, req, err := load(filepath.Join(bundle, "config.json"), func(config object) (wire.DeliverRequest, error) {
		return container(config, c.id, rules)
	})
	if err == nil && len(req.Missing) > 0 {
		tell(o, req)
		err = fmt.Errorf("container %s: %w", cmp.Or(req.Name, req.ContainerID), target.Given{Missing: req.Missing}.Refused())
	}
	if err != nil || len(req.References) == 0 {
		return nil, err
	}
	resp, err := ask(o, req)
	if err != nil {
		return nil, err
	}
	data, err := rewriteBundle(config, bundle, resp)
	if err != nil {
		return nil, fmt.Errorf("rewrite %s: %w", bundle, err)
	}
	ours, err := writeBundle(o.Private, "config.json", data)
	if err != nil {
		return nil, err
	}
	if c.bundle < 0 {
		return &rewritten{ours, c.withBundle(ours.Dir)}, nil
	}
	return &rewritten{ours, c.replace(c.bundle, ours.Dir)}, nil
}

func prepareProcess(o Options, c call) (*rewritten, error) {
	path := c.operand(c.process)
	started := startedWith(o.Private, c.id)
	process, req, err := load(path, func(process object) (wire.DeliverRequest, error) {
		req := wire.DeliverRequest{ContainerID: c.id, Exec: true}
		if len(started.Given) > 0 {
			if err := give(process, started.Given); err != nil {
				return req, err
			}
		}
		var err error
		req.References, err = references(process, started.Given)
		return req, err
	})
	if err != nil || len(req.References) == 0 {
		return nil, err
	}
	env, open := known(started, req)
	if len(open) > 0 {
		req.References = open
		resp, err := ask(o, req)
		if err != nil {
			return nil, err
		}
		maps.Copy(env, resp.Env)
	}
	if err := setEnv(process, env); err != nil {
		return nil, fmt.Errorf("rewrite %s: %w", path, err)
	}
	data, err := json.Marshal(process)
	if err != nil {
		return nil, fmt.Errorf("rewrite %s: %w", path, err)
	}
	ours, err := writeBundle(o.Private, "process.json", data)
	if err != nil {
		return nil, err
	}
	return &rewritten{ours, c.replace(c.process, filepath.Join(ours.Dir, "process.json"))}, nil
}

// load reads a configuration. One without references may be given some, or ask for them by
// the container's label: that is not in it.
func load(path string, describe func(object) (wire.DeliverRequest, error)) (object, wire.DeliverRequest, error) {
	var req wire.DeliverRequest
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, req, fmt.Errorf("read the container's configuration: %w", err)
	}
	var config object
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, req, fmt.Errorf("read %s: %w", path, err)
	}
	if req, err = describe(config); err != nil {
		return nil, req, fmt.Errorf("read %s: %w", path, err)
	}
	return config, req, nil
}

func writeBundle(root, name string, data []byte) (*private.Bundle, error) {
	b, err := private.NewBundle(root)
	if err != nil {
		return nil, err
	}
	if _, err := b.Write(name, data); err != nil {
		return nil, errors.Join(err, b.Remove())
	}
	return b, nil
}

// execute runs the real runtime as a child, with the same standard streams, and
// returns its exit code.
func execute(runtime string, args []string) (int, error) {
	cmd := exec.Command(runtime, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("run %s: %w", runtime, err)
	}
	return 0, nil
}

// refuse reports err where the engine shows it to the user: in the file of the
// real runtime's --log option, in its JSON form.
func refuse(c call, err error) int {
	msg := "dso: " + err.Error()
	fmt.Fprintln(os.Stderr, msg)
	if c.log == "" {
		return 1
	}
	line, _ := json.Marshal(map[string]string{"level": "error", "msg": msg, "time": time.Now().UTC().Format(time.RFC3339Nano)})
	if f, openErr := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); openErr == nil {
		_, _ = f.Write(append(line, '\n'))
		_ = f.Close()
	}
	return 1
}
