package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// withGaps gives a file that was written anew the empty lines that it had, and its comments
// their places: the writer of YAML keeps neither. Above a key or an entry there is a gap of
// empty lines and comments; where the comments are still the same, the old gap comes back.
func (c *composeFile) withGaps(text string, written []*document) string {
	before, after := lines(c.before), lines(text)
	old := map[int]int{len(after): len(before)} // line of before by line of now, from 0
	for i, d := range c.docs {
		pair(d.root, written[i].root, func(was, is int) {
			// A node that is nothing may be said to be on another line.
			if _, known := old[is]; !known && stands(before, was) && stands(after, is) {
				old[is] = was
			}
		})
	}
	var out []string
	for i := 0; i <= len(after); i++ {
		if was, known := old[i]; known {
			gone, back := gapAbove(after, i), gapAbove(before, was)
			if slices.Equal(comments(gone), comments(back)) {
				out = append(out[:len(out)-len(gone)], back...)
			}
		}
		if i < len(after) {
			out = append(out, after[i])
		}
	}
	return strings.Join(out, "\n") + "\n"
}

func lines(text string) []string {
	return strings.Split(strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), "\n")
}

// pair calls do for the lines, from 0, of the nodes that two trees have in the same place.
func pair(old, fresh *yaml.Node, do func(was, is int)) {
	if old.Kind != fresh.Kind || len(old.Content) != len(fresh.Content) {
		return
	}
	for i := range old.Content {
		if was, is := old.Content[i].Line, fresh.Content[i].Line; was > 0 && is > 0 {
			do(was-1, is-1)
		}
		pair(old.Content[i], fresh.Content[i], do)
	}
}

// stands reports whether a line has something besides a comment.
func stands(text []string, at int) bool {
	if at >= len(text) {
		return false
	}
	line := strings.TrimSpace(text[at])
	return line != "" && line[0] != '#'
}

func gapAbove(text []string, at int) []string {
	from := at
	for from > 0 && !stands(text, from-1) {
		from--
	}
	return text[from:at]
}

func comments(gap []string) (found []string) {
	for _, line := range gap {
		if line = strings.TrimSpace(line); line != "" {
			found = append(found, line)
		}
	}
	return found
}

func sameDocument(a, b *document) bool { return same(a.root, b.root) }

// same reports whether two trees say the same.
func same(a, b *yaml.Node) bool {
	return a.Kind == b.Kind && a.ShortTag() == b.ShortTag() && a.Value == b.Value && a.Anchor == b.Anchor && slices.EqualFunc(a.Content, b.Content, same)
}
