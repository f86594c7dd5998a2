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
	if c == "" || !terminal(a.out) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}
