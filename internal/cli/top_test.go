package cli

import (
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/client"
)

// press gives the model keys, one after the other, and returns the last command.
func press(t *testing.T, m top, keys ...string) (top, tea.Cmd) {
	t.Helper()
	var cmd tea.Cmd
	for _, k := range keys {
		var next tea.Model
		next, cmd = m.key(k)
		m = next.(top)
	}
	return m, cmd
}

func looked(t *testing.T) top {
	t.Helper()
	m := newTop(t.Context(), client.New(agentStub(t, full())), 1)
	next, again := m.Update(m.look())
	assert.Assert(t, again != nil, "it looks again after a while")
	return next.(top)
}

func TestTop_ShowsContainersSecretsRotationsAndProviders(t *testing.T) {
	text := looked(t).text()
	for _, want := range []string{
		"agent 4.0.0, up 3h, critical", "> shop-web-1", "local:shop/db v1 -> v2", "  local:shop/db", "rotation of shop-web-1: rolling, forward gate", "provider vault: error timeout", "r rotate",
	} {
		assert.Check(t, strings.Contains(text, want), "%q is not in:\n%s", want, text)
	}
}

func TestTop_AsksBeforeItChangesAnything(t *testing.T) {
	m, cmd := press(t, looked(t), "r")
	assert.Assert(t, cmd == nil)
	assert.Assert(t, strings.Contains(m.text(), "rotate shop-web-1? y/n"))
	no, cmd := press(t, m, "n")
	assert.Assert(t, cmd == nil && strings.Contains(no.text(), "nothing was done"))
	_, cmd = press(t, m, "y")
	assert.Equal(t, cmd(), doneMsg("shop-web-1 rotated"))

	m, _ = press(t, looked(t), "b")
	assert.Assert(t, m.question == "" && strings.Contains(m.text(), "tab goes to the secrets"))
	m, _ = press(t, m, "tab", "b")
	assert.Equal(t, m.question, "roll back local:shop/db? y/n")
	_, cmd = press(t, m, "y")
	assert.Equal(t, cmd(), doneMsg("shop/db is back at its older value, as version 2"))
}

func TestTop_Filters(t *testing.T) {
	m, _ := press(t, looked(t), "/", "x", "x")
	assert.Equal(t, len(m.rows()), 0)
	m, _ = press(t, m, "backspace", "backspace", "w", "e", "b", "enter")
	assert.DeepEqual(t, m.rows(), []string{"shop-web-1"})
	m, _ = press(t, m, "down", "down", "up", "esc")
	assert.Equal(t, m.row, 0)
	_, cmd := press(t, m, "q")
	assert.Equal(t, cmd(), tea.QuitMsg{})
}

func TestTop_AnAgentThatIsGoneIsShown(t *testing.T) {
	m := newTop(t.Context(), client.New("/no/such/socket"), 1)
	next, again := m.Update(m.look())
	assert.Assert(t, again != nil)
	assert.Assert(t, strings.HasPrefix(next.(top).text(), "unreachable: no agent is running"))
}

func TestTop_NeedsATerminal(t *testing.T) {
	_, _, err := said(t, strings.NewReader(""), "top")
	assert.Equal(t, ExitCode(err), ExitUsage)
}
