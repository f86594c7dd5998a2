package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Input is a project as it lies there. Nothing of it is changed.
type Input struct {
	Project string
	Dir     string                            // of the project: relative paths begin there; empty: that of the first model file
	Compose []File                            // the model files, in Compose's order
	Env     []File                            // those that Compose interpolates from, such as .env
	Read    func(path string) ([]byte, error) // an env_file or the file of a secret
	Environ map[string]string                 // what overrides Env: the shell's
	// Include are variables that are secrets whatever they look like, Exclude those that
	// are none. NoEntropy takes no value for a secret because it looks random.
	Include, Exclude []string
	NoEntropy        bool
}

// File is one file.
type File struct {
	Path string
	Text []byte
}

// Plan is what would be done. It holds values, and can be shown all the same.
type Plan struct {
	SchemaVersion int      `json:"schema_version"`
	Project       string   `json:"project"`
	Secrets       []Secret `json:"secrets"`
	Files         []Output `json:"files"`
	Left          []Left   `json:"left"`
}

// Secret is a value that becomes a secret of the vault.
type Secret struct {
	Name  string       `json:"name"` // with its namespace
	Value secret.Value `json:"-"`
	Bytes int          `json:"bytes"`
	Why   string       `json:"why"`
	From  []string     `json:"from"` // file:line, and what stands there
}

// Output is a file that is written beside the original.
type Output struct {
	Original string   `json:"original"`
	Path     string   `json:"path"`
	Changes  []string `json:"changes"`
	Text     []byte   `json:"-"`
	Private  bool     `json:"-"` // others may not read it, whoever may read the original
}

// Left is what looks like a secret and stays where it is.
type Left struct {
	Where string `json:"where"`
	Text  string `json:"text"`
}

// planner collects a plan.
type planner struct {
	in      Input
	plan    Plan
	env     map[string]string // for interpolation
	files   []*composeFile
	docs    []*document // of all the files
	envs    []*Env
	byValue map[string]string            // name of the secret by variable and value
	names   map[string]string            // value by name
	gone    map[string]map[string]string // what an env file loses, by path and variable
	kept    map[string]bool              // what it does not lose after all

	foreign  []*Env                       // the env_files of others
	others   map[string]*composeFile      // by path: what the files include or extend from
	included map[*document][]*composeFile // by who includes it
	extended map[*yaml.Node]*composeFile  // by where it is named
	blind    string                       // where one is named that cannot be read
	fixed    map[string]bool              // services of which an env_file is not understood
	pinned   map[string]bool              // paths of their env_files
	added    map[*yaml.Node][]provided    // by service: what its env_files no longer give it
	needs    map[*yaml.Node][]variable    // by service: its environment, but for what is added
}

// Make plans. Its errors do not quote the files.
func Make(in Input) (Plan, error) {
	p := &planner{
		in: in, plan: Plan{SchemaVersion: 1, Project: in.Project, Secrets: []Secret{}, Files: []Output{}, Left: []Left{}},
		env: map[string]string{}, byValue: map[string]string{}, names: map[string]string{}, gone: map[string]map[string]string{}, kept: map[string]bool{},
		others: map[string]*composeFile{}, included: map[*document][]*composeFile{}, extended: map[*yaml.Node]*composeFile{}, fixed: map[string]bool{}, pinned: map[string]bool{},
		added: map[*yaml.Node][]provided{}, needs: map[*yaml.Node][]variable{},
	}
	if err := p.read(); err != nil {
		return Plan{}, err
	}
	for _, c := range p.files {
		p.around(c)
	}
	p.additions()
	for _, d := range p.docs {
		each(member(d.top, "services"), func(_, s *yaml.Node) { p.needs[s] = effective(member(s, "environment")) })
		p.document(d)
	}
	for _, d := range p.docs {
		p.unmount(d)
		p.unshare(d)
	}
	p.stay()
	p.unmoved()
	for _, d := range p.docs {
		p.unusedSecrets(d)
		p.besides(d)
	}
	return p.plan, p.write()
}

// read takes apart the files of the project.
func (p *planner) read() error {
	for _, f := range p.in.Env {
		e, err := readEnv(f, "", p.env, func(name string) (string, bool) { v, ok := p.in.Environ[name]; return v, ok })
		if err != nil {
			return err
		}
		p.envs = append(p.envs, e)
	}
	maps.Copy(p.env, p.in.Environ)
	for _, f := range p.in.Compose {
		c, err := parseFile(f, cmp.Or(p.in.Dir, filepath.Dir(p.in.Compose[0].Path)))
		if err != nil {
			return err
		}
		p.files = append(p.files, c)
		p.docs = append(p.docs, c.docs...)
	}
	return nil
}

// write makes the new files.
func (p *planner) write() error {
	for _, c := range p.files {
		if len(c.changes) > 0 {
			text, err := c.text()
			if err != nil {
				return err
			}
			p.output(c.path, text, c.said())
		}
	}
	for _, path := range slices.Sorted(maps.Keys(p.gone)) {
		e := p.envAt(path)
		var changes []string
		for _, name := range slices.Sorted(maps.Keys(p.gone[path])) {
			changes = append(changes, fmt.Sprintf("line %d: %s goes to %s", e.Line(name), name, p.gone[path][name]))
		}
		p.output(path, e.Without(p.gone[path]), changes)
	}
	return nil
}

// envAt is an environment file that was read.
func (p *planner) envAt(path string) *Env {
	i := slices.IndexFunc(p.envs, func(e *Env) bool { return e.Path == path })
	if i < 0 {
		return nil
	}
	return p.envs[i]
}

// Beside is the name of the new file beside an original.
func Beside(path string) string {
	dir, base := filepath.Split(path)
	ext := filepath.Ext(base)
	if ext == base || ext == "" || !slices.Contains([]string{".yaml", ".yml", ".env"}, ext) {
		return path + ".dso"
	}
	return dir + strings.TrimSuffix(base, ext) + ".dso" + ext
}

func (p *planner) output(path string, text []byte, changes []string) {
	p.plan.Files = append(p.plan.Files, Output{Original: path, Path: Beside(path), Changes: changes, Text: text})
}

// why says why a variable is a secret; empty when it is none.
func (p *planner) why(name, value string) string {
	switch {
	case slices.Contains(p.in.Exclude, name), secret.IsRef(value):
		return ""
	case slices.Contains(p.in.Include, name) && value != "":
		return ByPerson
	}
	why := likely(name, value)
	if why == ByEntropy && p.in.NoEntropy {
		return ""
	}
	return why
}

// shortest is the length from which on one value is one secret, whatever its variables
// are called: a database and its clients call a password differently. What is shorter may
// be the same by chance.
const shortest = 6

// secretFor returns the path of the secret, within the project, that a variable's value
// becomes.
func (p *planner) secretFor(service, variable, value, why, from string) string {
	key := value
	if len(value) < shortest {
		key = variable + "\x00" + value
	}
	if name, ok := p.byValue[key]; ok {
		for i := range p.plan.Secrets {
			if s := &p.plan.Secrets[i]; s.Name == p.in.Project+"/"+name && !slices.Contains(s.From, from) {
				s.From = append(s.From, from)
			}
		}
		return name
	}
	name := pathOf(variable)
	if other, taken := p.names[name]; taken && other != value && service != "" {
		name = pathOf(service) + "-" + name
	}
	for n, base := 2, name; ; n++ {
		if other, taken := p.names[name]; !taken || other == value {
			break
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
	p.byValue[key], p.names[name] = name, value
	p.plan.Secrets = append(p.plan.Secrets, Secret{
		Name: p.in.Project + "/" + name, Value: secret.NewValue([]byte(value)), Bytes: len(value), Why: why, From: []string{from},
	})
	return name
}

// pathOf is a variable's name as the path of a secret.
func pathOf(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			b.WriteRune(c)
		} else {
			b.WriteByte('_')
		}
	}
	if path := strings.TrimLeft(b.String(), ".-"); path != "" {
		return path
	}
	return "secret"
}

func (p *planner) left(where, format string, args ...any) {
	if l := (Left{where, fmt.Sprintf(format, args...)}); !slices.Contains(p.plan.Left, l) {
		p.plan.Left = append(p.plan.Left, l)
	}
}
