package cli

import "os"

// colour is the number of a colour of ANSI terminals.
type colour string

const (
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

// paint colours text on a terminal whose user has nothing against it
// (https://no-color.org). No meaning is ever in a colour alone.
func (a *app) paint(c colour, text string) string {
	if c == "" || !a.rewrites() || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// rewrites reports whether the output is a terminal that understands more than text: a dumb
// one would show the sequences that move its cursor.
func (a *app) rewrites() bool { return terminal(a.out) && os.Getenv("TERM") != "dumb" }
