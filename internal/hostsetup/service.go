package hostsetup

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is what keeps the agent alive.
type Manager string

// The managers.
const (
	BySystemd Manager = "systemd"
	ByEngine  Manager = "docker" // the agent is a container
)

// ErrNoService says that nothing on this host keeps an agent alive.
var ErrNoService = hinted{errors.New("the agent is neither a service nor a container of this host"), "docker dso setup makes it one"}

// Service is the agent as its manager sees it.
type Service struct {
	Manager  Manager `json:"manager"`
	Enabled  bool    `json:"enabled"` // it starts at boot
	State    string  `json:"state"`   // in the manager's words
	PID      int     `json:"pid,omitempty"`
	Restarts int     `json:"restarts"`
	Said     string  `json:"said,omitempty"` // by the agent
	Since    string  `json:"since,omitempty"`
}

// manager returns what keeps the agent alive on this host.
func (h *Host) manager(ctx context.Context) (Manager, error) {
	if _, err := h.Run(ctx, "docker", "inspect", "-f", "{{.Id}}", agentContainer); err == nil {
		return ByEngine, nil
	}
	// The units of a package are there too, and an engine that is away cannot be asked.
	if r, err := h.loadRecord(); err == nil && r.made(RunAgent) {
		return ByEngine, nil
	}
	if h.unitThere("dso-agent.service") {
		return BySystemd, nil
	}
	return "", ErrNoService
}

// Service looks at the agent.
func (h *Host) Service(ctx context.Context) (Service, error) {
	m, err := h.manager(ctx)
	if err != nil {
		return Service{}, err
	}
	s := Service{Manager: m}
	if m == ByEngine {
		out, err := h.Run(ctx, "docker", "inspect", "-f",
			"{{.State.Status}}\t{{.State.Pid}}\t{{.RestartCount}}\t{{.HostConfig.RestartPolicy.Name}}\t{{.State.StartedAt}}", agentContainer)
		if err != nil {
			return s, err
		}
		fields := strings.Split(strings.TrimSpace(out)+"\t\t\t\t", "\t")
		s.State, s.Enabled, s.Since = fields[0], fields[3] == "always", fields[4]
		s.PID, _ = strconv.Atoi(fields[1])
		s.Restarts, _ = strconv.Atoi(fields[2])
		return s, nil
	}
	out, err := h.systemctl(ctx, "show", "dso-agent.service", "--property", "ActiveState,SubState,MainPID,NRestarts,StatusText,UnitFileState,ActiveEnterTimestamp")
	if err != nil {
		return s, err
	}
	properties := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		properties[name] = value
	}
	s.Enabled = properties["UnitFileState"] == "enabled"
	s.State = properties["ActiveState"] + " (" + properties["SubState"] + ")"
	s.Said, s.Since = properties["StatusText"], properties["ActiveEnterTimestamp"]
	s.PID, _ = strconv.Atoi(properties["MainPID"])
	s.Restarts, _ = strconv.Atoi(properties["NRestarts"])
	return s, nil
}

// Enable makes the agent start at boot, and now.
func (h *Host) Enable(ctx context.Context) error {
	return h.control(ctx, []string{"enable", "--now", "--no-block"}, []string{"update", "--restart", "always"}, []string{"start"})
}

// Disable makes the agent end, and not start at boot. Containers go on; what uses
// references cannot start.
func (h *Host) Disable(ctx context.Context) error {
	return h.control(ctx, []string{"disable", "--now"}, []string{"update", "--restart", "no"}, []string{"stop"})
}

// Restart starts the agent anew. Connections wait meanwhile.
func (h *Host) Restart(ctx context.Context) error {
	m, err := h.manager(ctx)
	if err != nil {
		return err
	}
	if m == ByEngine {
		_, err = h.Run(ctx, "docker", "restart", "--time", stopTimeout, agentContainer)
		return err
	}
	_, err = h.systemctl(ctx, "restart", "--no-block", "dso-agent.service")
	return err
}

func (h *Host) control(ctx context.Context, systemctl []string, docker ...[]string) error {
	m, err := h.manager(ctx)
	if err != nil {
		return err
	}
	if m == BySystemd {
		_, err = h.systemctl(ctx, append(systemctl, units...)...)
		return err
	}
	for _, args := range docker {
		if _, err := h.Run(ctx, "docker", append(args, agentContainer)...); err != nil {
			return err
		}
	}
	return nil
}

// LogFile is where the log of an agent is looked for that neither systemd nor the engine
// keeps alive: who starts it sends its standard error there.
const LogFile = "/var/log/dso/agent.log"

// Log says where the agent's log is: a command that prints it, or a file.
type Log struct {
	Command []string
	File    string
	// Raw says that the lines are the agent's own and are still to be chosen from.
	Raw bool
}

// LogQuery is what is wanted of the log, in the words of journalctl.
type LogQuery struct {
	Last     int
	Follow   bool
	Since    time.Time
	Priority string
	JSON     bool // the agent's own lines and nothing before them
}

// Log returns where the log is. The journal chooses by itself what is wanted.
func (h *Host) Log(ctx context.Context, q LogQuery) (Log, error) {
	m, err := h.manager(ctx)
	switch {
	case err == nil && m == BySystemd && exists(h.path("/run/systemd/system")):
		return Log{Command: journalctl(q)}, nil
	case err == nil && m == ByEngine:
		args := []string{"docker", "logs"}
		if q.Follow {
			args = append(args, "--follow")
		}
		return Log{Command: append(args, agentContainer), Raw: true}, nil
	}
	if _, statErr := os.Stat(h.path(LogFile)); statErr == nil {
		return Log{File: h.path(LogFile), Raw: true}, nil
	}
	if err == nil {
		err = ErrNoService
	}
	return Log{}, err
}

func journalctl(q LogQuery) []string {
	args := []string{"journalctl", "--unit", "dso-agent.service", "--no-pager", "--quiet", "--output", "short-iso"}
	if q.JSON {
		args[len(args)-1] = "cat"
	}
	if q.Last > 0 {
		args = append(args, "--lines", strconv.Itoa(q.Last))
	}
	if q.Follow {
		args = append(args, "--follow")
	}
	if !q.Since.IsZero() {
		args = append(args, "--since", q.Since.Local().Format(time.DateTime))
	}
	if q.Priority != "" {
		args = append(args, "--priority", q.Priority)
	}
	return args
}
