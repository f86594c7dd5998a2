package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
)

func (a *app) topCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top", Short: "Show live what runs, and rotate, pin or roll back from there", Args: noArgs,
		Long: `Show live the containers with their versions, the rotations as they step, the secrets and
the providers. Keys: up and down choose a row, tab another list, / filters, r rotates the
chosen container or what uses the chosen secret, p pins the chosen container or lets it go, b
rolls the chosen secret back to its value before, q ends. What changes something is asked about
first.

It needs a terminal; elsewhere there is docker dso status --watch.`,
		Example: "  docker dso top",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !a.rewrites() || !terminal(a.in) {
				return withHint(usageError("top needs a terminal"), "docker dso status --watch prints the same again and again")
			}
			if every < 100*time.Millisecond {
				return usageError("--interval is at least 100ms")
			}
			m := newTop(cmd.Context(), a.agent(), every)
			_, err := tea.NewProgram(m, tea.WithContext(cmd.Context()), tea.WithInput(a.in), tea.WithOutput(a.out)).Run()
			if errors.Is(err, tea.ErrInterrupted) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&every, "interval", time.Second, "pause between two looks")
	return cmd
}

// top is what docker dso top shows. It changes with messages only; what takes time is a
// command that ends with one.
type top struct {
	ctx   context.Context
	agent *client.Client
	every time.Duration

	status wire.Status
	err    error
	said   string // how the last thing that was asked for ended

	secrets   bool   // the list of secrets has the keys, not that of containers
	row       int    // chosen in it
	filter    string // only what has it in its name
	typing    bool   // the filter is being typed
	question  string // to be answered with y
	confirmed tea.Cmd

	width, height int // of the terminal; 0: not known yet
}

// The messages of top.
type (
	statusMsg struct {
		status wire.Status
		err    error
	}
	tickMsg struct{}
	doneMsg string
)

// tooSmall is said where a question could not be seen.
const tooSmall = "nothing was done: the terminal is too small to ask"

func newTop(ctx context.Context, agent *client.Client, every time.Duration) top {
	return top{ctx: ctx, agent: agent, every: every}
}

// Init implements [tea.Model].
func (m top) Init() tea.Cmd { return m.look }

func (m top) look() tea.Msg {
	var st wire.Status
	err := m.agent.Call(m.ctx, "GET", "/v1/status", nil, &st)
	return statusMsg{st, err}
}

// Update implements [tea.Model].
func (m top) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case statusMsg:
		m.status, m.err = msg.status, msg.err
		m.row = max(0, min(m.row, len(m.rows())-1))
		return m, tea.Tick(m.every, func(time.Time) tea.Msg { return tickMsg{} })
	case tickMsg:
		return m, m.look
	case doneMsg:
		m.said = string(msg)
		return m, nil
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		if m.question != "" && !m.canAsk(m.question) {
			m.question, m.confirmed, m.said = "", nil, tooSmall
		}
		return m, nil
	case tea.KeyPressMsg:
		return m.key(msg.String())
	}
	return m, nil
}

func (m top) key(key string) (tea.Model, tea.Cmd) {
	switch {
	case key == "ctrl+c":
		return m, tea.Quit
	case m.question != "":
		do := m.confirmed
		m.question, m.confirmed = "", nil
		if key == "y" {
			m.said = "…"
			return m, do
		}
		m.said = "nothing was done"
		return m, nil
	case m.typing:
		return m.typed(key), nil
	}
	switch key {
	case "q":
		return m, tea.Quit
	case "down", "j":
		m.row = max(0, min(m.row+1, len(m.rows())-1))
	case "up", "k":
		m.row = max(0, m.row-1)
	case "tab":
		m.secrets, m.row = !m.secrets, 0
	case "/":
		m.typing, m.filter, m.row = true, "", 0
	case "esc":
		m.filter, m.row = "", 0
	case "r":
		return m.ask("rotate")
	case "p":
		if i := m.container(); i >= 0 && m.status.Containers[i].PinnedBy() != "" {
			return m.ask("unpin")
		}
		return m.ask("pin")
	case "b":
		return m.ask("roll back")
	}
	return m, nil
}

// typed takes a key while the filter is typed.
func (m top) typed(key string) top {
	switch {
	case key == "enter":
		m.typing = false
	case key == "esc":
		m.typing, m.filter = false, ""
	case key == "backspace":
		if n := len(m.filter); n > 0 {
			m.filter = m.filter[:n-1]
		}
	case len(key) == 1:
		m.filter += key
	}
	return m
}

// ask asks whether to do something with the chosen row.
func (m top) ask(what string) (tea.Model, tea.Cmd) {
	rows := m.rows()
	if m.row >= len(rows) {
		return m, nil
	}
	name := rows[m.row]
	local, isLocal := strings.CutPrefix(name, "local:")
	switch {
	case what == "rotate" && m.secrets:
		typed := strings.Replace(strings.TrimPrefix(name, "local:"), ":", "/", 1)
		m.confirmed = m.rotate(wire.RotateRequest{Secret: typed, Force: true, Cause: "docker dso top"})
	case what == "rotate":
		m.confirmed = m.rotate(wire.RotateRequest{Container: name, Force: true, Cause: "docker dso top"})
	case what != "roll back" && m.secrets:
		m.said = "only a container can be pinned: tab goes to the containers"
		return m, nil
	case what != "roll back":
		m.confirmed = m.pin(what, name)
	case !m.secrets || !isLocal:
		m.said = "only a secret of the local vault can be rolled back: tab goes to the secrets"
		return m, nil
	default:
		m.confirmed = m.rollback(local)
	}
	question := what + " " + name + "? y/n"
	if !m.canAsk(question) {
		m.confirmed, m.said = nil, tooSmall
		return m, nil
	}
	m.question = question
	return m, nil
}

func (m top) rotate(req wire.RotateRequest) tea.Cmd {
	return func() tea.Msg {
		results, err := m.agent.Rotate(m.ctx, req, func(wire.RotateStep) {})
		if err != nil {
			return doneMsg(err.Error())
		}
		var parts []string
		for _, r := range results {
			how := strings.ReplaceAll(r.Outcome, "_", " ")
			if how == "" {
				how = "has the current version"
			}
			if r.Error != "" {
				how += ": " + r.Error
			}
			parts = append(parts, r.Container+" "+how)
		}
		return doneMsg(strings.Join(parts, "; "))
	}
}

// container is the index of the chosen container; -1: none is.
func (m top) container() int {
	rows := m.rows()
	if m.secrets || m.row >= len(rows) {
		return -1
	}
	return slices.IndexFunc(m.status.Containers, func(c wire.ContainerStatus) bool { return c.Name == rows[m.row] })
}

func (m top) pin(what, name string) tea.Cmd {
	return func() tea.Msg {
		do := m.agent.Pin
		if what == "unpin" {
			do = m.agent.Unpin
		}
		resp, err := do(m.ctx, name)
		if err != nil {
			return doneMsg(err.Error())
		}
		if resp.Pin == nil {
			return doneMsg(resp.Container + " follows the current versions again")
		}
		return doneMsg(resp.Container + " is pinned to " + versionsText(resp.Versions))
	}
}

func (m top) rollback(name string) tea.Cmd {
	return func() tea.Msg {
		var resp wire.VersionResponse
		if err := m.agent.Call(m.ctx, "POST", "/v1/secret/rollback", wire.NameRequest{Name: name}, &resp); err != nil {
			return doneMsg(err.Error())
		}
		return doneMsg(fmt.Sprintf("%s is back at its older value, as version %s", resp.Name, resp.Version))
	}
}

// rows are the names of the list that has the keys.
func (m top) rows() []string {
	var names []string
	if m.secrets {
		for _, s := range m.status.Secrets {
			names = append(names, s.Secret)
		}
	} else {
		for _, c := range m.status.Containers {
			names = append(names, c.Name)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.Contains(n, m.filter) })
}
