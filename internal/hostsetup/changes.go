package hostsetup

import "strings"

// Changes shows what is different in a text, in lines that begin with - or +. What is
// the same before and after is left out.
func Changes(before, after string) []string {
	b, a := splitLines(before), splitLines(after)
	for len(b) > 0 && len(a) > 0 && b[0] == a[0] {
		b, a = b[1:], a[1:]
	}
	for len(b) > 0 && len(a) > 0 && b[len(b)-1] == a[len(a)-1] {
		b, a = b[:len(b)-1], a[:len(a)-1]
	}
	var out []string
	for _, line := range b {
		out = append(out, "-"+line)
	}
	for _, line := range a {
		out = append(out, "+"+line)
	}
	return out
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}
