package migrate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// composeFile is a Compose file: its documents, which Compose merges as if each were a
// file.
type composeFile struct {
	path    string
	dir     string // what relative paths in it begin at
	foreign bool   // it is included or extended from, and not written anew
	depth   int    // how many name each other until this one
	before  string
	docs    []*document
	changes []change
}

type change struct {
	line int
	text string
}

// document is a tree of nodes, with its comments and its order.
type document struct {
	*composeFile
	root, top *yaml.Node
	seen      map[*yaml.Node]bool   // what was dealt with: an anchor is one
	renamed   map[*yaml.Node]bool   // env_files that have their new names
	filed     map[*yaml.Node]string // the secret of Compose that a variable named
	mounts    []mount
	was       map[*yaml.Node]*yaml.Node // what an anchor had, and has a reference now
}

func parseFile(f File, dir string) (*composeFile, error) {
	c := &composeFile{path: f.Path, dir: dir, before: string(f.Text)}
	for in := yaml.NewDecoder(bytes.NewReader(f.Text)); ; {
		d := &document{composeFile: c, root: new(yaml.Node), seen: map[*yaml.Node]bool{}, renamed: map[*yaml.Node]bool{}, filed: map[*yaml.Node]string{}, was: map[*yaml.Node]*yaml.Node{}}
		err := in.Decode(d.root)
		if errors.Is(err, io.EOF) && len(c.docs) > 0 {
			return c, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s is not valid YAML", f.Path) // the error may quote
		}
		if d.root.Kind != yaml.DocumentNode || len(d.root.Content) == 0 || d.root.Content[0].Kind != yaml.MappingNode {
			return nil, fmt.Errorf("%s is not a Compose file", f.Path)
		}
		if circular(d.root, map[*yaml.Node]bool{}) {
			return nil, fmt.Errorf("%s has an alias that leads to where it stands", f.Path)
		}
		d.top = d.root.Content[0]
		c.docs = append(c.docs, d)
	}
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

func (c *composeFile) text() ([]byte, error) {
	var out bytes.Buffer
	width, list := c.indent()
	e, err := yaml.NewDumper(&out, yaml.WithV3Defaults(), yaml.WithLineWidth(-1), yaml.WithIndent(width), yaml.WithCompactSeqIndent(list < width))
	for _, d := range c.docs {
		if err == nil {
			err = e.Dump(d.root)
		}
	}
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("write %s anew: %w", c.path, err)
	}
	written, err := parseFile(File{Beside(c.path), out.Bytes()}, c.dir)
	if err != nil {
		return nil, fmt.Errorf("write %s anew: %w", c.path, err) // such as an alias without its anchor
	}
	text := []byte(c.withGaps(out.String(), written.docs))
	if spaced, err := parseFile(File{Beside(c.path), text}, c.dir); err == nil && slices.EqualFunc(spaced.docs, written.docs, sameDocument) {
		return text, nil
	}
	return out.Bytes(), nil
}

// indent is how far the first mapping below a key stands to its right, and the first list.
func (c *composeFile) indent() (width, list int) {
	width, list = -1, -1
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		each(n, func(key, value *yaml.Node) {
			by := value.Column - key.Column
			switch {
			case value.Line == key.Line || value.Style&yaml.FlowStyle != 0:
			case value.Kind == yaml.MappingNode && width < 0:
				width = by
			case value.Kind == yaml.SequenceNode && list < 0:
				list = by
			}
		})
		for _, below := range n.Content {
			walk(below)
		}
	}
	for _, d := range c.docs {
		walk(d.root)
	}
	if width < 2 {
		width = 2
	}
	if list < 0 {
		list = width
	}
	return width, list
}

func (c *composeFile) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", c.path, n.Line) }

func (c *composeFile) changed(n *yaml.Node, format string, args ...any) {
	c.changes = append(c.changes, change{n.Line, fmt.Sprintf("line %d: ", n.Line) + fmt.Sprintf(format, args...)})
}

// said are the changes in the order of the lines.
func (c *composeFile) said() []string {
	slices.SortStableFunc(c.changes, func(a, b change) int { return cmp.Compare(a.line, b.line) })
	var all []string
	for _, change := range c.changes {
		all = append(all, change.text)
	}
	return all
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

// document looks at every service of a document.
func (p *planner) document(d *document) {
	each(member(d.top, "services"), func(key, value *yaml.Node) {
		if follow(value).Kind == yaml.MappingNode {
			p.service(d, key.Value, value)
		}
	})
	each(member(d.top, "configs"), func(key, value *yaml.Node) {
		p.mentions(d, "config "+key.Value+", content", member(value, "content"))
	})
	each(d.top, func(key, value *yaml.Node) {
		// An anchor of its own may be merged by a file that extends this one.
		if strings.HasPrefix(key.Value, "x-") {
			p.mentions(d, key.Value, follow(value))
		}
	})
}

func (p *planner) service(d *document, name string, s *yaml.Node) {
	p.environment(d, name, member(s, "environment"))
	p.fromFiles(d, name, s)
	p.fileSecrets(d, name, s)
	for _, key := range []string{"command", "entrypoint", "labels", "healthcheck"} {
		p.mentions(d, "service "+name+", "+key, member(s, key))
	}
	if args := member(member(s, "build"), "args"); args != nil {
		p.mentions(d, "service "+name+", build.args", args)
	}
}

// variable is one entry of an environment.
type variable struct {
	name  string
	text  string     // as Compose reads it, before it interpolates; of one without a value: empty
	given bool       // it has a value here
	node  *yaml.Node // to be replaced
	list  bool       // the node is NAME=value
}

// variables returns the entries of an environment that is a mapping or a list, and after
// them those that it merges: of two of a name in a mapping the first counts, in a list
// the last.
func variables(env *yaml.Node, seen map[*yaml.Node]bool) []variable {
	env = follow(env)
	if env == nil || seen[env] {
		return nil
	}
	seen[env] = true
	var all, merged []variable
	switch env.Kind {
	case yaml.MappingNode:
		each(env, func(key, value *yaml.Node) {
			if key.Tag == "!!merge" || key.Value == "<<" {
				from := []*yaml.Node{value}
				if list := follow(value); list.Kind == yaml.SequenceNode {
					from = list.Content
				}
				for _, m := range from {
					merged = append(merged, variables(m, seen)...)
				}
				return
			}
			if value = follow(value); value.Kind == yaml.ScalarNode {
				all = append(all, variable{key.Value, plainText(value), value.Tag != "!!null", value, false})
			}
		})
	case yaml.SequenceNode:
		for _, item := range env.Content {
			item = follow(item)
			name, text, given := strings.Cut(item.Value, "=")
			if item.Kind == yaml.ScalarNode && name != "" {
				all = append(all, variable{name, text, given, item, true})
			}
		}
	}
	return append(all, merged...)
}

// effective returns the entries of an environment that count.
func effective(env *yaml.Node) []variable {
	var all []variable
	at := map[string]int{}
	for _, v := range variables(env, map[*yaml.Node]bool{}) {
		if i, twice := at[v.name]; !twice {
			at[v.name] = len(all)
			all = append(all, v)
		} else if v.list {
			all[i] = v
		}
	}
	return all
}

// plainText is the text that Compose makes of a scalar that stands for a string: it reads
// 0x1F as a number, and a date as a moment.
func plainText(n *yaml.Node) string {
	var value any
	if err := n.Decode(&value); err != nil || value == nil {
		return n.Value
	}
	return fmt.Sprint(value)
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

// refer puts a reference in the place of a value.
func (d *document) refer(v variable, ref string) {
	if v.node.Anchor != "" {
		was := *v.node
		d.was[v.node] = &was
	}
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
	value, err := template.Substitute(v.text, p.lookup)
	return value, err == nil
}

func (p *planner) lookup(name string) (string, bool) {
	value, ok := p.env[name]
	return value, ok
}

// whyEntry says why an entry of an environment is a secret; empty when it is none.
func (p *planner) whyEntry(v variable, value string) string {
	if why := p.why(v.name, value); why != "" || slices.Contains(p.in.Exclude, v.name) || secret.IsRef(value) {
		return why
	}
	for _, name := range variablesIn(v.text) {
		if part := p.env[name]; p.why(name, part) != "" && strings.Contains(value, part) {
			return ByPart
		}
	}
	return ""
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
		why := p.whyEntry(v, value)
		if why == "" {
			continue
		}
		name := p.secretFor(service, v.source(), value, why, d.at(v.node)+" "+v.name)
		d.refer(v, "dso://"+name)
		d.changed(v.node, "%s becomes dso://%s", v.name, name)
		words := []string{v.name}
		if v.given {
			words = variablesIn(v.text)
		}
		p.uses(words, name)
	}
}

// uses notes which variables of the environment files a value was made of: they are not
// needed any more, if nothing else needs them.
func (p *planner) uses(names []string, secret string) {
	for _, name := range names {
		for _, e := range p.envs {
			// What is not the value of now was not stored either.
			if value, ok := e.Values()[name]; ok && value == p.env[name] && p.isEnv(e.Path) {
				p.lose(e.Path, name, secret)
			}
		}
	}
}

func (p *planner) isEnv(path string) bool {
	return slices.ContainsFunc(p.in.Env, func(f File) bool { return f.Path == path })
}

func (p *planner) lose(path, variable, secret string) {
	if p.gone[path] == nil {
		p.gone[path] = map[string]string{}
	}
	p.gone[path][variable] = "dso://" + p.in.Project + "/" + secret
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
		if value, err := template.Substitute(n.Value, p.lookup); err == nil && p.why(name, value) != "" {
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
