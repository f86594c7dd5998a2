package migrate

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// document is one Compose file as a tree of nodes, with its comments and its order.
type document struct {
	path    string
	root    *yaml.Node
	changes []string
	seen    map[*yaml.Node]bool // environments that were dealt with: an anchor is one
}

func parseDocument(f File) (*document, error) {
	d := &document{path: f.Path, root: new(yaml.Node), seen: map[*yaml.Node]bool{}}
	if err := yaml.Unmarshal(f.Text, d.root); err != nil {
		return nil, fmt.Errorf("%s is not valid YAML", f.Path) // the error may quote
	}
	if d.root.Kind != yaml.DocumentNode || len(d.root.Content) == 0 || d.root.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s is not a Compose file", f.Path)
	}
	if circular(d.root, map[*yaml.Node]bool{}) {
		return nil, fmt.Errorf("%s has an alias that leads to where it stands", f.Path)
	}
	return d, nil
}

// circular reports whether aliases below a node lead back to what they are in. done
// says of a node whether it has been left again.
func circular(n *yaml.Node, done map[*yaml.Node]bool) bool {
	left, seen := done[n]
	if seen {
		return !left
	}
	done[n] = false
	below := n.Content
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		below = []*yaml.Node{n.Alias}
	}
	for _, c := range below {
		if circular(c, done) {
			return true
		}
	}
	done[n] = true
	return false
}

func (d *document) text() ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(d.root); err != nil {
		return nil, fmt.Errorf("write %s anew: %w", d.path, err)
	}
	return out.Bytes(), e.Close()
}

func (d *document) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", d.path, n.Line) }

func (d *document) changed(n *yaml.Node, format string, args ...any) {
	d.changes = append(d.changes, fmt.Sprintf("line %d: ", n.Line)+fmt.Sprintf(format, args...))
}

func follow(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// member returns the value of a key of a mapping, or of what it merges; nil when it has
// none.
func member(n *yaml.Node, key string) *yaml.Node {
	n = follow(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var merged *yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		switch n.Content[i].Value {
		case key:
			return follow(n.Content[i+1])
		case "<<":
			from := []*yaml.Node{n.Content[i+1]}
			if list := follow(n.Content[i+1]); list.Kind == yaml.SequenceNode {
				from = list.Content
			}
			for _, m := range from {
				if merged == nil {
					merged = member(m, key)
				}
			}
		}
	}
	return merged
}

// each calls do for every pair of a mapping.
func each(n *yaml.Node, do func(key, value *yaml.Node)) {
	n = follow(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		do(n.Content[i], n.Content[i+1])
	}
}

// drop removes a key of a mapping.
func drop(n *yaml.Node, key string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content = append(n.Content[:i], n.Content[i+2:]...)
			return
		}
	}
}

func scalar(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// replace puts a text in the place of a scalar, and keeps the comments and an anchor.
func replace(n *yaml.Node, text string) {
	n.Kind, n.Tag, n.Value, n.Style = yaml.ScalarNode, "!!str", text, 0
}

// document looks at every service of a file.
func (p *planner) document(d *document) error {
	top := d.root.Content[0]
	var err error
	each(member(top, "services"), func(key, value *yaml.Node) {
		if err == nil {
			err = p.service(d, key.Value, follow(value))
		}
	})
	if err != nil {
		return err
	}
	p.unusedSecrets(d)
	each(top, func(key, value *yaml.Node) {
		// An anchor of its own may be merged by a file that extends this one.
		if strings.HasPrefix(key.Value, "x-") {
			p.mentions(d, key.Value, follow(value))
		}
	})
	return nil
}

func (p *planner) service(d *document, name string, s *yaml.Node) error {
	if s.Kind != yaml.MappingNode {
		return nil
	}
	p.environment(d, name, member(s, "environment"))
	if err := p.envFiles(d, name, s); err != nil {
		return err
	}
	if err := p.fileSecrets(d, name, s); err != nil {
		return err
	}
	for _, key := range []string{"command", "entrypoint", "labels", "healthcheck"} {
		p.mentions(d, "service "+name+", "+key, member(s, key))
	}
	if args := member(member(s, "build"), "args"); args != nil {
		p.mentions(d, "service "+name+", build.args", args)
	}
	return nil
}

// variable is one entry of an environment.
type variable struct {
	name  string
	text  string     // as it stands there; of one without a value: empty
	given bool       // it has a value here
	node  *yaml.Node // to be replaced
	list  bool       // the node is NAME=value
}

// variables returns the entries of an environment that is a mapping or a list, those
// that it merges included.
func variables(env *yaml.Node, seen map[*yaml.Node]bool) []variable {
	env = follow(env)
	if env == nil || seen[env] {
		return nil
	}
	seen[env] = true
	var all []variable
	switch env.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(env.Content); i += 2 {
			key, value := env.Content[i], env.Content[i+1]
			switch {
			case key.Tag == "!!merge" || key.Value == "<<":
				merged := follow(value)
				if merged.Kind == yaml.SequenceNode {
					for _, m := range merged.Content {
						all = append(all, variables(m, seen)...)
					}
				} else {
					all = append(all, variables(merged, seen)...)
				}
			default:
				value = follow(value)
				if value.Kind == yaml.ScalarNode {
					all = append(all, variable{key.Value, value.Value, value.Tag != "!!null", value, false})
				}
			}
		}
	case yaml.SequenceNode:
		for _, item := range env.Content {
			item = follow(item)
			name, text, given := strings.Cut(item.Value, "=")
			if item.Kind == yaml.ScalarNode && name != "" {
				all = append(all, variable{name, text, given, item, true})
			}
		}
	}
	return all
}

var oneVariable = regexp.MustCompile(`^\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?::?[-?][^{}]*)?\}|([A-Za-z_][A-Za-z0-9_]*))$`)

// source is what the value is called where it comes from: a variable that is nothing but
// another one has its name.
func (v variable) source() string {
	if m := oneVariable.FindStringSubmatch(v.text); m != nil {
		return m[1] + m[2]
	}
	return v.name
}

func (v variable) refer(ref string) {
	if v.list {
		replace(v.node, v.name+"="+ref)
		return
	}
	replace(v.node, ref)
}

// resolve returns the value of a variable as Compose would give it.
func (p *planner) resolve(v variable) (value string, known bool) {
	if !v.given {
		value, known = p.env[v.name]
		return value, known
	}
	value, err := template.Substitute(v.text, func(name string) (string, bool) { s, ok := p.env[name]; return s, ok })
	return value, err == nil
}

func (p *planner) environment(d *document, service string, env *yaml.Node) {
	for _, v := range variables(env, d.seen) {
		if secret.IsRef(v.text) {
			continue
		}
		value, known := p.resolve(v)
		where := fmt.Sprintf("%s, service %s, variable %s", d.at(v.node), service, v.name)
		if !known {
			if likely(v.name, "unknown") != "" {
				p.left(where, "it is set somewhere else (the shell, or nowhere): store it with docker dso secret set %s, and write dso://%s", pathOf(v.name), pathOf(v.name))
			}
			continue
		}
		why := p.why(v.name, value)
		if why == "" {
			continue
		}
		name := p.secretFor(service, v.source(), value, why, d.at(v.node)+" "+v.name)
		v.refer("dso://" + name)
		d.changed(v.node, "%s becomes dso://%s", v.name, name)
		p.uses(v, name)
	}
}

// uses notes which variables of the environment files a value was made of: they are not
// needed any more, if nothing else needs them.
func (p *planner) uses(v variable, name string) {
	words := []string{v.name}
	if v.given {
		words = variablesIn(v.text)
	}
	for _, word := range words {
		for _, e := range p.envs {
			if e.Line(word) > 0 && p.isEnv(e.Path) {
				p.lose(e.Path, word, "dso://"+p.in.Project+"/"+name)
			}
		}
	}
}

func (p *planner) isEnv(path string) bool {
	return slices.ContainsFunc(p.in.Env, func(f File) bool { return f.Path == path })
}

func (p *planner) lose(path, variable, to string) {
	if p.gone[path] == nil {
		p.gone[path] = map[string]string{}
	}
	p.gone[path][variable] = to
}

var interpolation = regexp.MustCompile(`\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)[^A-Za-z0-9_]|([A-Za-z_][A-Za-z0-9_]*))`)

// variablesIn returns the variables that a text interpolates, those in defaults too.
func variablesIn(text string) []string {
	var names []string
	for _, m := range interpolation.FindAllStringSubmatch(text, -1) {
		if name := m[1] + m[2]; name != "" {
			names = append(names, name)
		}
	}
	return names
}

// interpolated keeps in the environment files what the new files still interpolate.
func (p *planner) interpolated(docs []*document) {
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			for _, name := range variablesIn(n.Value) {
				p.keep(name, "a Compose file")
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	for _, d := range docs {
		walk(d.root)
		each(member(d.root.Content[0], "services"), func(_, s *yaml.Node) {
			for _, v := range variables(member(s, "environment"), map[*yaml.Node]bool{}) {
				if !v.given {
					p.keep(v.name, "a Compose file")
				}
			}
		})
	}
}

func (p *planner) keep(name, by string) {
	for path, gone := range p.gone {
		if p.isEnv(path) && gone[name] != "" {
			delete(gone, name)
			e, _ := p.envFile(path)
			p.left(fmt.Sprintf("%s:%d", path, e.Line(name)), "%s stays: %s interpolates it in another place too", name, by)
		}
		if len(gone) == 0 {
			delete(p.gone, path)
		}
	}
}

// envFiles takes the secrets out of the files that a service is given as a whole: the
// environment of the service counts more than they do.
func (p *planner) envFiles(d *document, service string, s *yaml.Node) error {
	var nodes []*yaml.Node
	switch n := member(s, "env_file"); {
	case n == nil:
		return nil
	case n.Kind == yaml.ScalarNode:
		nodes = []*yaml.Node{n}
	case n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			if item = follow(item); item.Kind == yaml.MappingNode {
				item = member(item, "path")
			}
			if item != nil {
				nodes = append(nodes, item)
			}
		}
	}
	own := map[string]bool{}
	for _, v := range variables(member(s, "environment"), map[*yaml.Node]bool{}) {
		own[v.name] = true
	}
	for _, n := range nodes {
		if strings.Contains(n.Value, "$") {
			p.left(d.at(n)+", service "+service, "the name of its env_file has a variable in it")
			continue
		}
		if d.seen[n] {
			continue // an anchor
		}
		d.seen[n] = true
		path := n.Value
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(d.path), path)
		}
		e, err := p.envFile(path)
		if err != nil {
			p.left(d.at(n)+", service "+service, "its env_file %s cannot be read", n.Value)
			continue
		}
		lost := false
		for _, v := range e.vars {
			why := p.why(v.name, v.value)
			if why == "" || e.Line(v.name) != v.from+1 {
				continue
			}
			name := p.secretFor(service, v.name, v.value, why, fmt.Sprintf("%s:%d %s", path, v.from+1, v.name))
			if !own[v.name] {
				own[v.name] = true
				addVariable(s, v.name, "dso://"+name)
				d.changed(n, "%s of %s becomes dso://%s in the environment of %s", v.name, n.Value, name, service)
			}
			p.lose(path, v.name, "dso://"+p.in.Project+"/"+name)
			lost = true
		}
		if lost || p.gone[path] != nil {
			replaced := Beside(n.Value)
			d.changed(n, "env_file is %s", replaced)
			replace(n, replaced)
		}
	}
	return nil
}

// addVariable adds an entry to the environment of a service, in its own form. One that
// is shared by an anchor is not added to: it gets a merge of its own.
func addVariable(s *yaml.Node, name, ref string) {
	for i := 0; i+1 < len(s.Content); i += 2 {
		if s.Content[i].Value != "environment" {
			continue
		}
		env := s.Content[i+1]
		if env.Kind == yaml.AliasNode {
			if follow(env).Kind == yaml.SequenceNode {
				fresh := &yaml.Node{Kind: yaml.SequenceNode, Content: slices.Clone(follow(env).Content)}
				s.Content[i+1], env = fresh, fresh
			} else {
				merge := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!merge", Value: "<<"}
				fresh := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{merge, env}}
				s.Content[i+1], env = fresh, fresh
			}
		}
		switch env.Kind {
		case yaml.SequenceNode:
			env.Content = append(env.Content, scalar(name+"="+ref))
		case yaml.MappingNode:
			env.Content = append(env.Content, scalar(name), scalar(ref))
		default: // null
			*env = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{scalar(name), scalar(ref)}}
		}
		return
	}
	s.Content = append(s.Content, scalar("environment"), &yaml.Node{
		Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{scalar(name), scalar(ref)},
	})
}

// mentions says where else something looks like a secret: it cannot be a reference
// there.
func (p *planner) mentions(d *document, where string, n *yaml.Node) {
	n = follow(n)
	if n == nil || d.seen[n] {
		return
	}
	check := func(name string, n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || secret.IsRef(n.Value) || n.Tag == "!!null" {
			return
		}
		if value, err := template.Substitute(n.Value, func(name string) (string, bool) { s, ok := p.env[name]; return s, ok }); err == nil && p.why(name, value) != "" {
			p.left(d.at(n)+", "+where, "it looks like a secret, and a reference is not resolved in this place")
		}
	}
	switch n.Kind {
	case yaml.MappingNode:
		each(n, func(key, value *yaml.Node) {
			if value = follow(value); value.Kind == yaml.ScalarNode {
				check(key.Value, value)
			} else {
				p.mentions(d, where+"."+key.Value, value)
			}
		})
	case yaml.SequenceNode:
		for _, item := range n.Content {
			p.mentions(d, where, item)
		}
	case yaml.ScalarNode:
		for word := range strings.FieldsSeq(n.Value) {
			name, value, ok := strings.Cut(strings.TrimLeft(word, "-"), "=")
			if !ok {
				name, value = "", word
			}
			check(name, &yaml.Node{Kind: yaml.ScalarNode, Value: value, Line: n.Line})
		}
	}
}
