package cli

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Endpoint is which engine the docker command line is pointed at.
type Endpoint struct {
	Context string // its name; empty or "default": none was chosen
	Host    string // such as unix:///var/run/docker.sock or ssh://root@prod
}

// ErrElsewhere says that the engine is on another host, and so is its agent.
var ErrElsewhere = errors.New("its agent cannot be reached from here")

// here says why the agent of this host is not that of the engine that is meant; nil
// when it is.
func here(e Endpoint) error {
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
	where := "DOCKER_HOST"
	if e.Context != "" && e.Context != "default" {
		where = fmt.Sprintf("the docker context %q", e.Context)
	}
	hint := "run docker dso on that host"
	if u.Scheme == "ssh" {
		to := strings.TrimPrefix(u.User.String()+"@"+u.Hostname(), "@")
		if u.Port() != "" {
			to = "-p " + u.Port() + " " + to
		}
		hint = fmt.Sprintf("run it there: ssh %[1]s docker dso …; or forward its socket: ssh -nNT -L /tmp/dso.sock:/run/dso/dso.sock %[1]s, and use --socket /tmp/dso.sock", to)
	}
	return &coded{withHint(fmt.Errorf("%s is an engine on another host (%s), %w", where, u.Redacted(), ErrElsewhere), hint), ExitNoAgent}
}
