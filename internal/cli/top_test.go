package cli

import (
	"fmt"
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
	return sized(next.(top), 120, 40)
}

// sized is the model on a terminal of another size.
func sized(m top, width, height int) top {
	next, _ := m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return next.(top)
}

// crowded has more rows than a small terminal has lines.
func crowded(t *testing.T, containers, secrets int) top {
	t.Helper()
	m := looked(t)
	c, s := m.status.Containers[0], m.status.Secrets[0]
	m.status.Containers, m.status.Secrets = nil, nil
	for i := range containers {
		c.Name = fmt.Sprintf("shop-web-%d", i+1)
		m.status.Containers = append(m.status.Containers, c)
	}
	for i := range secrets {
		s.Secret = fmt.Sprintf("local:shop/db%d", i+1)
		m.status.Secrets = append(m.status.Secrets, s)
	}
	return m
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

	m, _ = press(t, looked(t), "p")
	assert.Equal(t, m.question, "pin shop-web-1? y/n")
	_, cmd = press(t, m, "y")
	assert.Equal(t, cmd(), doneMsg("shop-web-1 is pinned to local:shop/db v1"))
	pinned := looked(t)
	pinned.status.Containers[0].Pin.By = "ann"
	m, _ = press(t, pinned, "p")
	assert.Equal(t, m.question, "unpin shop-web-1? y/n")
	_, cmd = press(t, m, "y")
	assert.Equal(t, cmd(), doneMsg("shop-web-1 follows the current versions again"))
	m, _ = press(t, looked(t), "tab", "p")
	assert.Assert(t, m.question == "" && strings.Contains(m.said, "only a container can be pinned"))

	m, _ = press(t, looked(t), "b")
	assert.Assert(t, m.question == "" && strings.Contains(m.text(), "tab goes to the secrets"))
	m, _ = press(t, m, "tab", "b")
	assert.Equal(t, m.question, "roll back local:shop/db? y/n")
	_, cmd = press(t, m, "y")
	assert.Equal(t, cmd(), doneMsg("shop/db is back at its older value, as version 2"))
}

// Whatever the terminal, the row that is chosen and the question about it are on it, or
// nothing can be asked.
func TestTop_NothingIsChangedUnseen(t *testing.T) {
	full := crowded(t, 12, 9)
	full.said = strings.Repeat("said ", 60)
	for width := 1; width <= 130; width += 3 {
		for height := range 45 {
			for _, keys := range [][]string{{"r"}, {"down", "down", "r"}, {"down", "p"}, {"tab", "b"}, {"tab", "down", "down", "down", "b"}, {"/", "9", "enter", "r"}, {"/", "9", "enter", "tab", "r"}} {
				m, _ := press(t, sized(full, width, height), keys...)
				text := m.text()
				lines := strings.Split(text, "\n")
				assert.Assert(t, len(lines) <= max(height, 1), "%dx%d %v:\n%s", width, height, keys, text)
				for _, line := range lines {
					assert.Assert(t, len([]rune(line)) <= width, "%dx%d: %q", width, height, line)
				}
				if m.question == "" {
					_, cmd := press(t, m, "y")
					assert.Assert(t, cmd == nil && m.confirmed == nil && (m.small() || m.said == tooSmall), "%dx%d %v: %q", width, height, keys, m.said)
					continue
				}
				joined := strings.ReplaceAll(strings.ReplaceAll(text, "\n", ""), " ", "")
				assert.Assert(t, strings.Contains(joined, strings.ReplaceAll(m.question, " ", "")), "%dx%d %v:\n%s", width, height, keys, text)
				name := m.rows()[m.row]
				assert.Assert(t, strings.Contains(text, clip("> "+name, width)), "%dx%d %v: %s is not on\n%s", width, height, keys, name, text)
				assert.Assert(t, strings.Contains(text, "up/down") || strings.Contains(text, "lines "), "%dx%d %v:\n%s", width, height, keys, text)
			}
		}
	}
}

func TestTop_ScrollsToWhatIsChosen(t *testing.T) {
	m := sized(crowded(t, 40, 30), 80, 12)
	for range 39 {
		assert.Assert(t, strings.Contains(m.text(), "> "+m.rows()[m.row]+" "), m.text())
		m, _ = press(t, m, "down")
	}
	m, _ = press(t, m, "tab")
	assert.Assert(t, strings.Contains(m.text(), "SECRETS\n> local:shop/db1"), m.text())
	assert.Assert(t, strings.Contains(m.text(), "lines "), m.text())
	m, _ = press(t, m, "b")
	assert.Assert(t, m.question != "")
	m = sized(m, 80, 3)
	_, cmd := press(t, m, "y")
	assert.Assert(t, cmd == nil && m.question == "", "a question that the terminal has no room for any more is off")
	assert.Assert(t, strings.HasPrefix(m.text(), "too small: r, p, b off; 20x4"), m.text())
}

func TestTop_WhatAnErrorQuotesMovesNothing(t *testing.T) {
	m := looked(t)
	m.status.Containers[0].Stale.Cause = "a\nb\x1b[2Jc"
	assert.Assert(t, !strings.Contains(m.text(), "\x1b") && strings.Contains(m.text(), "a b [2Jc"), m.text())
}

func TestTop_Filters(t *testing.T) {
	m, _ := press(t, looked(t), "/", "x", "x")
	assert.Equal(t, len(m.rows()), 0)
	m, _ = press(t, m, "backspace", "backspace", "w", "e", "b", "enter")
	assert.DeepEqual(t, m.rows(), []string{"shop-web-1"})
	assert.Assert(t, strings.Contains(m.text(), "\n/web (esc shows all)\n"), "a filter that holds is shown:\n%s", m.text())
	m, _ = press(t, m, "down", "down", "up", "esc")
	assert.Equal(t, m.row, 0)
	_, cmd := press(t, m, "q")
	assert.Equal(t, cmd(), tea.QuitMsg{})
}

func TestTop_AnAgentThatIsGoneIsShown(t *testing.T) {
	m := newTop(t.Context(), client.New("/no/such/socket"), 1)
	next, again := m.Update(m.look())
	assert.Assert(t, again != nil)
	assert.Assert(t, strings.HasPrefix(sized(next.(top), 80, 24).text(), "unreachable: no agent is running"))
}

func TestTop_NeedsATerminal(t *testing.T) {
	_, _, err := said(t, strings.NewReader(""), "top")
	assert.Equal(t, ExitCode(err), ExitUsage)
}
