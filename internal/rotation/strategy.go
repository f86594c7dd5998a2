package rotation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Strategy says how a container is changed over.
type Strategy string

// The strategies that this version carries out.
const (
	Rolling Strategy = label.Rolling // a second container beside the first, then change over
	Restart Strategy = label.Restart // the same container, restarted in place
	// The files change, and the process is told to read them anew.
	Signal Strategy = label.BySignal // by a signal
	Exec   Strategy = label.ByExec   // by a command in the container
	None   Strategy = label.None     // the files change, nothing else
)

// Strategies lists them in the order of the documentation.
var Strategies = []Strategy{Rolling, Restart, Signal, Exec, None}

// ErrPlan is wrapped by every reason why a container cannot be rotated as its
// labels ask.
var ErrPlan = errors.New("cannot plan the rotation")

// Observed is what a plan is made from.
type Observed struct {
	Container  engine.Container
	Front      *Front      // nil: the container is behind no front
	Dependants []string    // ids of running containers with network_mode container:<this>
	Ports      []uint16    // TCP ports the container accepts connections on now
	Files      []secret.ID // secrets that reach it as files
	Fixed      []secret.ID // secrets that it has as they were at its start, in its environment or at a path of their own
}

// Choose picks the strategy: the one the label asks for, or for "auto" the one
// that the container allows. The reasons are sentences for people.
func Choose(o Observed) (Strategy, []string, error) {
	c := o.Container
	asked := label.StrategyOf(c.Label)
	if text := c.Label(label.Reloader); text != "" {
		on, err := label.ParseSwitch(text)
		if err != nil {
			return "", nil, fmt.Errorf("%w: label %s=%q of %s %w", ErrPlan, label.Reloader, text, c.Name, err)
		}
		if !on {
			return None, []string{"label dso.reloader=false"}, nil
		}
	}
	if c.Label(engine.LabelSwarmTask) != "" {
		return "", nil, fmt.Errorf("%w: %s is a Swarm task; Swarm replaces its tasks itself: docker service update --force %s",
			ErrPlan, c.Name, c.Label("com.docker.swarm.service.name"))
	}
	if err := refused(c, asked); err != nil {
		return "", nil, err
	}
	switch asked {
	case label.Auto:
		return chooseAuto(o)
	case label.Rolling:
		if why := impossibleTwice(o); why != "" {
			return "", nil, fmt.Errorf("%w: %s asks for %s but %s; use restart or auto", ErrPlan, c.Name, askedBy(c), why)
		}
	case label.BySignal:
		if _, err := signalOf(c); err != nil {
			return "", nil, err
		}
	case label.ByExec:
		if _, err := commandOf(c); err != nil {
			return "", nil, err
		}
	}
	return Strategy(asked), []string{"label " + askedBy(c)}, nil
}

// askedBy is the label by which a container asks for its strategy.
func askedBy(c engine.Container) string {
	if s := c.Label(label.Strategy); s != "" && s != label.Auto {
		return label.Strategy + "=" + s
	}
	return label.Order + "=" + c.Label(label.Order)
}

// refused says what a container's labels ask for that does not exist, or that
// this version does not do.
func refused(c engine.Container, strategy string) error {
	if err := c.Given.Refused(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPlan, c.Name, err)
	}
	if c.Label(label.HostPorts) != "" && c.Project() == "" {
		return fmt.Errorf("%w: %s has the label %s, which docker dso up acts on in a Compose file: publish its ports with -p, or use Compose", ErrPlan, c.Name, label.HostPorts)
	}
	if !slices.Contains(label.Strategies, strategy) {
		return fmt.Errorf("%w: %s asks for dso.update.strategy=%s; it must be one of %s", ErrPlan, c.Name, strategy, strings.Join(label.Strategies, ", "))
	}
	return nil
}

// signalOf returns the signal of a container with the strategy signal.
func signalOf(c engine.Container) (string, error) {
	text := cmp.Or(c.Label(label.Signal), label.DefaultSignal)
	signal, err := label.ParseSignal(text)
	if err != nil {
		return "", fmt.Errorf("%w: label %s=%q of %s %w", ErrPlan, label.Signal, text, c.Name, err)
	}
	return signal, nil
}

// commandOf returns the command of a container with the strategy exec.
func commandOf(c engine.Container) ([]string, error) {
	words, line, err := label.ParseCommand(c.Label(label.Exec))
	switch {
	case c.Label(label.Exec) == "":
		return nil, fmt.Errorf("%w: %s asks for dso.update.strategy=exec and has no label %s, which says what to run", ErrPlan, c.Name, label.Exec)
	case err != nil:
		return nil, fmt.Errorf("%w: label %s of %s %w", ErrPlan, label.Exec, c.Name, err)
	case line != "":
		return engine.InShell(c.Spec.Config, line), nil
	}
	return words, nil
}

func chooseAuto(o Observed) (Strategy, []string, error) {
	var reasons []string
	if why := impossibleTwice(o); why != "" {
		reasons = append(reasons, why)
	}
	reasons = append(reasons, unwiseTwice(o)...)
	if len(reasons) > 0 {
		return Restart, reasons, nil
	}
	if o.Front != nil {
		return Rolling, []string{"nothing in it forbids two at once, and its front moves the traffic"}, nil
	}
	return Rolling, []string{"nothing in it forbids two at once, and it accepts no connections"}, nil
}

// impossibleTwice says why a second container could not run beside the first,
// or not without losing requests; empty when it can.
func impossibleTwice(o Observed) string {
	c := o.Container
	mode := container.NetworkMode("")
	if c.Spec.HostConfig != nil {
		mode = c.Spec.HostConfig.NetworkMode
	}
	switch {
	case mode.IsHost():
		return "it uses the host's network, where its ports exist once"
	case mode.IsContainer():
		return "it lives in the network of another container"
	case len(o.Dependants) > 0:
		return "other containers live in its network"
	}
	for name, ep := range c.Spec.Networks {
		if ep != nil && ep.IPAMConfig != nil && (ep.IPAMConfig.IPv4Address.IsValid() || ep.IPAMConfig.IPv6Address.IsValid()) {
			return "it has a static address on network " + name
		}
	}
	if o.Front == nil {
		if p := published(c); len(p) > 0 {
			return "it publishes " + strings.Join(p, ", ") + " itself and a published port belongs to one container (docker dso up gives it a front)"
		}
	}
	return ""
}

// unwiseTwice says why a second container should not run beside the first
// unless the user asks for it.
func unwiseTwice(o Observed) []string {
	c := o.Container
	var reasons []string
	for _, m := range c.Mounts {
		if !m.Writable || m.Type == "tmpfs" {
			continue
		}
		if m.Type == "volume" {
			reasons = append(reasons, fmt.Sprintf("it writes to volume %s at %s", engine.ShortID(m.Name), m.Destination))
		} else {
			reasons = append(reasons, fmt.Sprintf("it writes to %s at %s", m.Source, m.Destination))
		}
	}
	if hc := c.Spec.HostConfig; hc != nil {
		if len(hc.Devices) > 0 || len(hc.DeviceRequests) > 0 {
			reasons = append(reasons, "it uses devices of the host")
		}
		if hc.AutoRemove {
			reasons = append(reasons, "it removes itself when it stops (--rm), which leaves nothing to roll back to")
		}
		if hc.PidMode.IsContainer() || hc.IpcMode.IsContainer() {
			reasons = append(reasons, "it lives in a namespace of another container")
		}
	}
	if len(reasons) == 0 && o.Front == nil && len(o.Ports) > 0 && len(published(c)) == 0 {
		reasons = append(reasons, fmt.Sprintf("it accepts connections on %s and has no front to move them (docker dso up gives one to a service with ports, with expose, or that others depend on)", portList(o.Ports)))
	}
	return reasons
}

func published(c engine.Container) []string {
	if c.Spec.HostConfig == nil {
		return nil
	}
	var ports []string
	for port, bindings := range c.Spec.HostConfig.PortBindings {
		if len(bindings) > 0 {
			ports = append(ports, port.String())
		}
	}
	slices.Sort(ports)
	return ports
}

func portList(ports []uint16) string {
	parts := make([]string, len(ports))
	for i, p := range ports {
		parts[i] = fmt.Sprint(p)
	}
	return strings.Join(parts, ", ")
}

// The waits, when no label sets them.
const (
	DefaultHealth  = 2 * time.Minute
	DefaultMonitor = 2 * time.Second
	DefaultDrain   = 10 * time.Second
)

// TimingOf reads the waits from a container's labels.
func TimingOf(c engine.Container) (Timing, error) {
	t := Timing{Health: DefaultHealth, Monitor: DefaultMonitor, Drain: DefaultDrain}
	var errs []error
	for name, field := range map[string]*time.Duration{
		label.Health: &t.Health, label.Monitor: &t.Monitor, label.Drain: &t.Drain,
	} {
		text := c.Label(name)
		if text == "" {
			continue
		}
		d, err := label.ParseDuration(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: label %s=%q of %s %w", ErrPlan, name, text, c.Name, err))
			continue
		}
		*field = d
	}
	return t, errors.Join(errs...)
}

// Turns say how the containers of one service take turns.
type Turns struct {
	AtOnce int           // how many change at once; 0: all
	Pause  time.Duration // before the next ones
}

// TurnsOf reads the turns from a container's labels.
func TurnsOf(c engine.Container) (Turns, error) {
	t := Turns{AtOnce: 1}
	var errs []error
	if text := c.Label(label.AtOnce); text != "" {
		n, err := label.ParseCount(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: label %s=%q of %s %w", ErrPlan, label.AtOnce, text, c.Name, err))
		} else {
			t.AtOnce = n
		}
	}
	if text := c.Label(label.Delay); text != "" {
		d, err := label.ParseDuration(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: label %s=%q of %s %w", ErrPlan, label.Delay, text, c.Name, err))
		} else {
			t.Pause = d
		}
	}
	return t, errors.Join(errs...)
}
