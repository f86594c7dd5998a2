package migrate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/docker/cli/pkg/kvfile"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Env is an environment file: what it means, as Compose reads it, and where each
// variable stands.
type Env struct {
	Path   string
	format string
	lines  []string // with their newlines
	vars   []envVar
}

// envVar is one assignment.
type envVar struct {
	name, value string
	of          []string // the variables that its value was made of
	from, upTo  int      // lines, from 0, the second not included
}

// lookup gives the value of a variable, and whether there is one.
type lookup = func(name string) (value string, ok bool)

// ParseEnv reads an environment file. look gives variables that it does not define, and
// may be nil.
func ParseEnv(path string, text []byte, look lookup) (*Env, error) {
	return readEnv(File{path, text}, "", map[string]string{}, look)
}

// raw is the format of an env_file that is taken as it stands, without quotes and
// interpolation.
const raw = "raw"

// readEnv reads a file as Compose does, one after another: vars are what the files before
// it set, and get what this one sets. look counts more than they do.
func readEnv(f File, format string, vars map[string]string, look lookup) (*Env, error) {
	text := bytes.TrimPrefix(f.Text, []byte("\xef\xbb\xbf"))
	e := &Env{Path: f.Path, format: format, lines: strings.SplitAfter(string(text), "\n")}
	before := maps.Clone(vars)
	for at := 0; at < len(e.lines); {
		end := at + 1
		if format != raw {
			end = statement(e.lines, at)
		}
		text, earlier := strings.Join(e.lines[at:end], ""), vars
		if !strings.ContainsAny(text, "=:") {
			earlier = nil // a name alone is what the environment of Compose has
		}
		var of []string
		set, err := parseEnv(text, format, map[string]string{}, func(name string) (string, bool) {
			of = append(of, name)
			return first(name, look, earlier)
		})
		if err != nil || len(set) > 1 {
			// An error quotes the line, which may be a secret.
			return nil, fmt.Errorf("%s cannot be read as an environment file: line %d", f.Path, at+1)
		}
		for name, value := range set {
			e.vars = append(e.vars, envVar{name, value, of, at, end})
			vars[name] = value
		}
		at = end
	}
	whole, err := parseEnv(string(text), format, before, look)
	if err != nil || !maps.Equal(whole, vars) {
		return nil, fmt.Errorf("%s cannot be read as an environment file", f.Path)
	}
	return e, nil
}

func first(name string, look lookup, vars map[string]string) (string, bool) {
	if look != nil {
		if value, ok := look(name); ok {
			return value, true
		}
	}
	value, ok := vars[name]
	return value, ok
}

// parseEnv adds to vars what a text sets.
func parseEnv(text, format string, vars map[string]string, look lookup) (map[string]string, error) {
	switch format {
	case "":
		return vars, dotenv.ParseWithFormat(strings.NewReader(text), "", vars, look, "")
	case raw:
		lines, err := kvfile.ParseFromReader(strings.NewReader(text), look)
		for _, line := range lines {
			name, value, _ := strings.Cut(line, "=")
			vars[name] = value
		}
		return vars, err
	}
	return nil, fmt.Errorf("format %s is not known", format)
}

// statement returns the line after what begins on a line; a value in quotes may go over
// several lines.
func statement(lines []string, at int) (end int) {
	text := strings.TrimSpace(lines[at])
	sign := strings.IndexAny(text, "=:")
	if sign < 0 || strings.HasPrefix(text, "#") {
		return at + 1
	}
	value := strings.TrimLeft(text[sign+1:], " \t")
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return at + 1
	}
	quote, rest := value[0], value[1:]
	for end = at; ; {
		if closes(rest, quote) {
			return end + 1
		}
		if end++; end >= len(lines) {
			return at + 1
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

// interpolates returns the variables that an assignment needs, those included that its
// value was not made of this time.
func (e *Env) interpolates(v envVar) []string {
	if e.format == raw {
		return v.of
	}
	return append(variablesIn(strings.Join(e.lines[v.from:v.upTo], "")), v.of...)
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
// of them, as secrets of a namespace, and the names of the others. Two variables that would
// be one secret are an error.
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
		name := namespace + "/" + pathOf(v.name)
		if i := slices.IndexFunc(found, func(s Secret) bool { return s.Name == name }); i >= 0 {
			return nil, nil, fmt.Errorf("%s and %s of %s would both be the secret %s: rename one of them", found[i].From[0], v.name, path, name)
		}
		found = append(found, Secret{
			Name: name, Value: secret.NewValue([]byte(v.value)), Bytes: len(v.value), Why: why, From: []string{v.name},
		})
	}
	return found, others, nil
}

// FormatEnv writes values as an environment file that Compose reads back byte by byte. Two
// secrets that would be one variable are an error.
func FormatEnv(values map[string]string) ([]byte, error) {
	var out bytes.Buffer
	of := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		_, base, _ := strings.Cut(name, "/")
		variable := strings.ToUpper(strings.NewReplacer("/", "_", "-", "_", ".", "_").Replace(base))
		if other, twice := of[variable]; twice {
			return nil, fmt.Errorf("%s and %s would both be the variable %s: write them to two files, or use the format json", other, name, variable)
		}
		of[variable] = name
		switch {
		case strings.ContainsAny(value, "\x00\r") || !utf8.ValidString(value):
			return nil, fmt.Errorf("the value of %s has bytes that no environment file can hold; use the format json", name)
		case !strings.ContainsAny(value, "'"):
			fmt.Fprintf(&out, "%s='%s'\n", variable, value)
		default:
			fmt.Fprintf(&out, "%s=\"%s\"\n", variable, strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`).Replace(value))
		}
	}
	return out.Bytes(), nil
}

// FormatJSON writes values as an object of names and values. One that is not text is an
// object with its bytes in base64: a string of JSON cannot hold it.
func FormatJSON(values map[string]string) ([]byte, error) {
	type binary struct {
		Base64 []byte `json:"base64"`
	}
	out := map[string]any{}
	for name, value := range values {
		if out[name] = value; !utf8.ValidString(value) {
			out[name] = binary{[]byte(value)}
		}
	}
	return json.MarshalIndent(out, "", "  ")
}
