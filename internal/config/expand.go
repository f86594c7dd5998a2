package config

import (
	"fmt"
	"strings"
)

// expand replaces ${NAME} and ${NAME:-default} in one scalar. $${ stands for ${
// itself; a $ that no { follows is a $, so that nothing eats one in a password.
// literal reports whether any character of the result stands in the file.
func expand(text string, env func(string) (string, bool)) (out string, literal bool, err error) {
	var b strings.Builder
	for rest := text; rest != ""; {
		i := strings.Index(rest, "${")
		if i < 0 {
			b.WriteString(rest)
			return b.String(), true, nil
		}
		if i > 0 && rest[i-1] == '$' {
			b.WriteString(rest[:i-1] + "${")
			rest, literal = rest[i+2:], true
			continue
		}
		literal = literal || i > 0
		b.WriteString(rest[:i])
		inner, after, ok := strings.Cut(rest[i+2:], "}")
		if !ok {
			return "", true, fmt.Errorf("`${` without `}`")
		}
		name, fallback, hasFallback := strings.Cut(inner, ":-")
		if !isVariable(name) || strings.Contains(fallback, "${") {
			return "", true, fmt.Errorf("`${…}` must be `${NAME}` or `${NAME:-default}`")
		}
		value, set := env(name)
		switch {
		case value != "", set && !hasFallback:
		case hasFallback:
			value, literal = fallback, literal || fallback != ""
		default:
			return "", false, &unsetError{name}
		}
		b.WriteString(value)
		rest = after
	}
	return b.String(), literal, nil
}

type unsetError struct{ name string }

func (e *unsetError) Error() string {
	return fmt.Sprintf("the environment variable `%s` is not set", e.name)
}

// isVariable reports whether s can name an environment variable.
func isVariable(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
