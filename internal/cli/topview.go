package cli

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// The smallest terminal, in columns and lines, on which a row can be chosen and a question
// be read: the heading of a list, a row, the question and the keys.
const (
	leastWidth  = 20
	leastHeight = 4
)

// roomForHead is how many lines of the lists there must be before the head gets lines of
// its own and does not scroll with them.
const roomForHead = 8

const topKeys = "up/down choose · tab list · / filter · r rotate · p pin · b roll back · q end"

// View implements [tea.Model].
func (m top) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

// small reports whether nothing can be asked on this terminal, or its size is not known.
func (m top) small() bool { return m.width < leastWidth || m.height < leastHeight }

// canAsk reports whether a question can be seen as a whole, below what it is about.
func (m top) canAsk(question string) bool {
	m.question = question
	return !m.small() && len(m.footer()) <= m.height-2
}

// text is everything that is shown: never more lines than there are, with the footer last.
func (m top) text() string {
	if m.small() {
		return clip(fmt.Sprintf("too small: r, p, b off; %dx%d at least", leastWidth, leastHeight), max(m.width, 0))
	}
	head, lists, heading, chosen := m.body()
	foot := m.footer()
	var lines []string
	if m.height-len(foot)-len(head) >= roomForHead {
		lines = head
	} else {
		lists, heading, chosen = slices.Concat(head, lists), heading+len(head), chosen+len(head)
	}
	room := max(m.height-len(foot)-len(lines), 0)
	from := max(0, min(chosen-room/2, len(lists)-room))
	if chosen-heading < room {
		from = min(from, heading)
	}
	to := min(from+room, len(lists))
	if to-from < len(lists) {
		foot[len(foot)-1] = fmt.Sprintf("lines %d-%d of %d · %s", from+1, to, len(lists), foot[len(foot)-1])
	}
	lines = slices.Concat(lines, lists[from:to], foot)
	for i, line := range lines {
		lines[i] = clip(line, m.width)
	}
	return strings.Join(lines, "\n")
}

// body is what is shown above the footer: a head, and the lists, with the line of the
// heading and of the row that is chosen.
func (m top) body() (head, lists []string, heading, chosen int) {
	if m.err != nil {
		head = append(head, fmt.Sprintf("%s: %v", wire.Unreachable, m.err))
	} else {
		head = append(head, fmt.Sprintf("agent %s, up %s, %s", m.status.Runtime.Version, m.status.Runtime.Uptime, m.status.Health), rotationsText(m.status.Rotations))
	}
	for _, p := range m.status.Providers {
		head = append(head, providerText(p))
	}
	head = append(head, "")
	section := func(secrets bool, title string, line func(name string) string) {
		view := m
		view.secrets = secrets
		has := secrets == m.secrets
		if has {
			heading, chosen = len(lists), len(lists)
		}
		lists = append(lists, title)
		for i, name := range view.rows() {
			mark := "  "
			if has && i == m.row {
				mark, chosen = "> ", len(lists)
			}
			lists = append(lists, mark+line(name))
		}
		lists = append(lists, "")
	}
	section(false, "CONTAINERS", m.containerLine)
	section(true, "SECRETS", m.secretLine)
	for _, r := range m.status.Rotations.Open {
		lists = append(lists, fmt.Sprintf("rotation of %s: %s, %s %s, %s %s", r.Container, r.Strategy, r.Phase, r.Step, r.Age, r.Error))
	}
	return head, lists, heading, chosen
}

// footer is the question, or what is typed, or what was said, and the keys. A question is
// always whole; the rest leaves room for a row.
func (m top) footer() []string {
	var lines []string
	if m.filter != "" && !m.typing {
		lines = append(lines, "/"+m.filter+" (esc shows all)")
	}
	switch {
	case m.question != "":
		lines = append(lines, wrapped(m.question, m.width)...)
	case m.typing:
		lines = append(lines, "/"+m.filter)
	case m.said != "":
		said := wrapped(m.said, m.width)
		lines = append(lines, said[:max(1, min(len(said), m.height-3-len(lines)))]...)
	}
	keys := wrapped(topKeys, m.width)
	if len(lines)+len(keys) > m.height/2 {
		keys = []string{topKeys}
	}
	return append(lines, keys...)
}

// wrapped breaks a text into lines, at spaces where there are some.
func wrapped(text string, width int) []string {
	var lines []string
	rest := []rune(printable(text))
	for len(rest) > width {
		at := width
		for i := width; i > width/2; i-- {
			if rest[i] == ' ' {
				at = i
				break
			}
		}
		lines = append(lines, string(rest[:at]))
		rest = []rune(strings.TrimLeft(string(rest[at:]), " "))
	}
	return append(lines, string(rest))
}

// clip cuts a line off where the terminal ends.
func clip(line string, width int) string {
	runes := []rune(printable(line))
	return string(runes[:min(len(runes), width)])
}

// printable keeps what an error quotes from moving the cursor.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

func (m top) containerLine(name string) string {
	i := slices.IndexFunc(m.status.Containers, func(c wire.ContainerStatus) bool { return c.Name == name })
	c := m.status.Containers[i]
	return strings.TrimRight(fmt.Sprintf("%-28s %-20s %-10s %s  %s", c.Name, stateText(c), c.Strategy, secretsText(c), noteText(c)), " ")
}

func (m top) secretLine(name string) string {
	i := slices.IndexFunc(m.status.Secrets, func(s wire.SecretStatus) bool { return s.Secret == name })
	s := m.status.Secrets[i]
	return strings.TrimRight(fmt.Sprintf("%-40s v%-12s %-14s next %-10s %s %s", s.Secret, versionText(s.Version), since(s.Since), until(s.NextPoll), strings.Join(s.UsedBy, ", "), s.Error), " ")
}
