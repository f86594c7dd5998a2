package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// Endpoint is which engine the docker command line is pointed at.
type Endpoint struct {
	Context string // its name; empty or "default": none was chosen
	Host    string // such as unix:///var/run/docker.sock or ssh://root@prod
	Err     error  // why docker itself cannot tell which engine that is
	// Identity asks the engine who it is, as [EngineName] says it; nil: that cannot be asked.
	Identity func(context.Context) (string, error)
}

// EngineName is how an agent's own lock names the engine that it works for.
func EngineName(id, dataRoot string) string { return id + " at " + dataRoot }

// ErrElsewhere says that the engine is on another host, and so is its agent.
var ErrElsewhere = errors.New("its agent cannot be reached from here")

// usualEngines are the sockets of a host's own engine, which its agent works for unless it
// was told another one.
var usualEngines = []string{"unix:///var/run/docker.sock", "unix:///run/docker.sock"}

// engineWait bounds the question who an engine is.
const engineWait = 3 * time.Second

// where says what points docker to the engine.
func (e Endpoint) where() string {
	if e.Context != "" && e.Context != "default" {
		return fmt.Sprintf("the docker context %q", e.Context)
	}
	return "DOCKER_HOST"
}

// here says why the agent of this host is not that of the engine that is meant; nil
// when it is.
func here(e Endpoint) error {
	if e.Err != nil {
		return &coded{withHint(fmt.Errorf("%s cannot be used: %w", e.where(), e.Err), "docker context ls lists the contexts that there are"), ExitNoAgent}
	}
	u, err := url.Parse(e.Host)
	if e.Host == "" || err != nil {
		return nil // docker itself will say what is wrong with it
	}
	switch u.Scheme {
	case "unix", "npipe", "fd", "":
		return nil
	case "tcp", "http", "https":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
			return nil
		}
	}
	hint := "run docker dso on that host"
	if u.Scheme == "ssh" {
		to := strings.TrimPrefix(u.User.String()+"@"+u.Hostname(), "@")
		if u.Port() != "" {
			to = "-p " + u.Port() + " " + to
		}
		hint = fmt.Sprintf("run it there: ssh %[1]s docker dso …; or forward its socket: ssh -nNT -L /tmp/dso.sock:/run/dso/dso.sock %[1]s, and use --socket /tmp/dso.sock", to)
	}
	return &coded{withHint(fmt.Errorf("%s is an engine on another host (%s), %w", e.where(), u.Redacted(), ErrElsewhere), hint), ExitNoAgent}
}

// foreign says why the engine that is meant is not that of the agent: it is another host's,
// or another one of this host, such as one without root. What cannot be known is no reason.
func foreign(e Endpoint, socket string) error {
	if err := here(e); err != nil || e.Identity == nil || !strings.HasPrefix(e.Host, "unix://") || slices.Contains(usualEngines, e.Host) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), engineWait)
	defer cancel()
	meant, err := e.Identity(ctx)
	if err != nil {
		return nil // docker itself will say that it does not answer
	}
	var locks []wire.Lock
	if client.New(socket).Call(ctx, "GET", "/v1/locks", nil, &locks) != nil {
		return nil // what is asked for next says so
	}
	for _, l := range locks {
		if has, ok := strings.CutPrefix(l.Agent, "engine "); ok && l.Held && has != meant {
			return &coded{withHint(fmt.Errorf("%s is another engine (%s, %s) than that of the agent (%s)", e.where(), e.Host, meant, has),
				"docker --context default dso … means the agent's; an agent of that engine's own is named with --socket"), ExitNoAgent}
		}
	}
	return nil
}

// aboutThisHost refuses a command that looks at this host while docker is pointed at another
// one's engine, unless one of the options says what to look at.
func (a *app) aboutThisHost(cmd *cobra.Command, unless ...string) *cobra.Command {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.ContainsFunc(unless, cmd.Flags().Changed) {
			if err := a.foreign(); err != nil {
				return err
			}
		}
		return run(cmd, args)
	}
	return cmd
}
