package migrate

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Env is an environment file: what it means, as Compose reads it, and where each
// variable stands.
type Env struct {
	Path  string
	lines []string // with their newlines
	vars  []envVar
}

// envVar is one assignment.
type envVar struct {
	name       string
	value      string
	from, upTo int // lines, from 0, the second not included
}

// ParseEnv reads an environment file. lookup gives variables that it does not define,
// and may be nil.
func ParseEnv(path string, text []byte, lookup func(string) (string, bool)) (*Env, error) {
	if lookup == nil {
		lookup = func(string) (string, bool) { return "", false }
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	values, err := dotenv.ParseWithLookup(bytes.NewReader(text), lookup)
	if err != nil {
		// Its error quotes the line, which may be a secret.
		return nil, fmt.Errorf("%s cannot be read as an environment file", path)
	}
	e := &Env{Path: path, lines: strings.SplitAfter(string(text), "\n")}
	for i := 0; i < len(e.lines); {
		name, end := assignment(e.lines, i)
		if value, ok := values[name]; ok && name != "" {
			e.vars = append(e.vars, envVar{name, value, i, end})
		}
		i = end
	}
	return e, nil
}

// assignment returns the variable that a line sets, and the line after its value; a
// value in quotes may go over several lines.
func assignment(lines []string, at int) (name string, end int) {
	text := strings.TrimSpace(lines[at])
	if text == "" || strings.HasPrefix(text, "#") {
		return "", at + 1
	}
	text = strings.TrimLeft(strings.TrimPrefix(text, "export "), " \t")
	sign := strings.IndexAny(text, "=:")
	if sign < 0 {
		return "", at + 1
	}
	name = strings.TrimSpace(text[:sign])
	value := strings.TrimLeft(text[sign+1:], " \t")
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return name, at + 1
	}
	quote, rest := value[0], value[1:]
	for end = at; ; {
		if closes(rest, quote) {
			return name, end + 1
		}
		if end++; end >= len(lines) {
			return name, at + 1 // never closed: Compose takes it for a part of the value
		}
		rest = lines[end]
	}
}

// closes reports whether the quote that is open ends in the text.
func closes(text string, quote byte) bool {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote == '"':
			i++
		case text[i] == quote:
			return true
		}
	}
	return false
}

// Values are the variables with their values; the last assignment counts.
func (e *Env) Values() map[string]string {
	values := map[string]string{}
	for _, v := range e.vars {
		values[v.name] = v.value
	}
	return values
}

// Line is where a variable is set, from 1; 0: nowhere.
func (e *Env) Line(name string) int {
	at := 0
	for _, v := range e.vars {
		if v.name == name {
			at = v.from + 1
		}
	}
	return at
}

// Without returns the file without the variables, each replaced by a comment that says
// where it went. Everything else stays byte by byte.
func (e *Env) Without(gone map[string]string) []byte {
	var out bytes.Buffer
	next := 0
	for _, v := range e.vars {
		to, ok := gone[v.name]
		if !ok {
			continue
		}
		for ; next < v.from; next++ {
			out.WriteString(e.lines[next])
		}
		fmt.Fprintf(&out, "# %s is %s now\n", v.name, to)
		next = v.upTo
	}
	for ; next < len(e.lines); next++ {
		out.WriteString(e.lines[next])
	}
	return out.Bytes()
}

// EnvSecrets returns the variables of an environment file that look like secrets, or all
// of them, as secrets of a namespace, and the names of the others.
func EnvSecrets(path string, text []byte, namespace string, all bool) (found []Secret, others []string, err error) {
	e, err := ParseEnv(path, text, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range e.vars {
		if e.Line(v.name) != v.from+1 {
			continue // a later one counts
		}
		why := likely(v.name, v.value)
		switch {
		case secret.IsRef(v.value):
			continue
		case why == "" && !all:
			others = append(others, v.name)
			continue
		case why == "":
			why = ByPerson
		}
		found = append(found, Secret{
			Name: namespace + "/" + pathOf(v.name), Value: secret.NewValue([]byte(v.value)), Bytes: len(v.value), Why: why, From: []string{v.name},
		})
	}
	return found, others, nil
}

// FormatEnv writes values as an environment file that Compose reads back byte by byte.
func FormatEnv(values map[string]string) ([]byte, error) {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		_, base, _ := strings.Cut(name, "/")
		variable := strings.ToUpper(strings.NewReplacer("/", "_", "-", "_", ".", "_").Replace(base))
		switch {
		case strings.ContainsAny(value, "\x00\r"):
			return nil, fmt.Errorf("the value of %s has bytes that no environment file can hold; use the format json", name)
		case !strings.ContainsAny(value, "'"):
			fmt.Fprintf(&out, "%s='%s'\n", variable, value)
		default:
			fmt.Fprintf(&out, "%s=\"%s\"\n", variable, strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`).Replace(value))
		}
	}
	return out.Bytes(), nil
}
