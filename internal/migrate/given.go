package migrate

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"
)

// part is what one document says of a service. Compose merges the parts: what the service
// extends comes before the service itself, and a document before the next.
type part struct {
	doc     *document
	service string
	s       *yaml.Node
}

func (p *planner) parts(name string) []part {
	var all []part
	for _, d := range p.docs {
		all = append(all, p.partsIn(d, name, map[*yaml.Node]bool{})...)
	}
	return all
}

func (p *planner) partsIn(d *document, name string, above map[*yaml.Node]bool) (all []part) {
	s := entry(member(d.top, "services"), name)
	if above[s] {
		return nil // it extends itself
	}
	if follow(s) == nil || follow(s).Kind != yaml.MappingNode {
		for _, c := range p.included[d] {
			for _, other := range c.docs {
				all = append(all, p.partsIn(other, name, above)...)
			}
		}
		return all
	}
	above[s] = true
	if extends := member(s, "extends"); extends != nil {
		base, from := extends, []*document{d}
		if extends.Kind == yaml.MappingNode {
			base = member(extends, "service")
			if file := member(extends, "file"); file != nil {
				from = nil
				if c := p.extended[file]; c != nil {
					from = c.docs
				}
			}
		}
		for _, other := range from {
			if base != nil {
				all = append(all, p.partsIn(other, base.Value, above)...)
			}
		}
	}
	delete(above, s)
	return append(all, part{d, name, s})
}

// envUse is one env_file of a service.
type envUse struct {
	part
	node   *yaml.Node // its path
	path   string
	format string
}

// provided is a variable that a container has from an env_file, and not from
// environment, which counts more.
type provided struct {
	envVar
	from envUse
	why  string // it is a secret
	to   part   // whose environment can have it instead
}

// surroundings are what the env_files of a service may interpolate, besides each other.
type surroundings struct {
	p       *planner
	set     map[string]*string // by environment: nil is one without a value
	secrets map[string]string  // those of environment, and of the files that were read
}

func (s surroundings) lookup(name string) (string, bool) {
	if value, ok := s.p.env[name]; ok {
		return value, true
	}
	if value := s.set[name]; value != nil {
		return *value, true
	}
	return "", false
}

// why says why a variable of an env_file is a secret. Whoever says of a variable that it is
// none cannot know what it is made of.
func (s surroundings) why(v envVar) string {
	why := s.p.why(v.name, v.value)
	for _, name := range v.of {
		part, ok := s.p.env[name]
		if !ok {
			part = s.secrets[name]
		} else if s.p.why(name, part) == "" {
			continue
		}
		if why == "" && part != "" && strings.Contains(v.value, part) {
			why = ByPart
		}
	}
	return why
}

// environmentOf returns what environment says in all parts of a service, and the first
// part of which it counts.
func (p *planner) environmentOf(parts []part) (s surroundings, from int) {
	s = surroundings{p, map[string]*string{}, map[string]string{}}
	for i, part := range parts {
		env := member(part.s, "environment")
		if replaces(env) {
			clear(s.set)
			from = i
		}
		for _, v := range effective(env) {
			s.set[v.name] = nil
			delete(s.secrets, v.name)
			if value, known := p.resolve(v); known {
				s.set[v.name] = &value
				if p.whyEntry(v, value) != "" {
					s.secrets[v.name] = value
				}
			}
		}
	}
	return s, from
}

// given is what the env_files give the containers of a service, in the order in which
// Compose reads them. It is found out before anything is changed.
func (p *planner) given(service string, parts []part) []provided {
	around, from := p.environmentOf(parts)
	vars, last, order := map[string]string{}, map[string]provided{}, []string{}
	for name, value := range around.set {
		if value != nil {
			vars[name] = *value
		}
	}
	for _, use := range p.filesOf(parts...) {
		e := p.readUse(service, use, vars, around.lookup)
		if e == nil {
			continue
		}
		for _, v := range e.vars {
			if _, explicit := around.set[v.name]; explicit {
				continue
			}
			why := around.why(v)
			delete(around.secrets, v.name)
			if why != "" {
				around.secrets[v.name] = v.value
			}
			if _, known := last[v.name]; !known {
				order = append(order, v.name)
			}
			last[v.name] = provided{v, use, why, parts[max(from, slices.Index(parts, use.part))]}
		}
	}
	var all []provided
	for _, name := range order {
		all = append(all, last[name])
	}
	return all
}

// replaces reports whether a value takes the place of the one before, instead of being
// merged with it.
func replaces(n *yaml.Node) bool { return n != nil && (n.Tag == "!override" || n.Tag == "!reset") }

// filesOf are the env_files that Compose reads for the parts of a service: each once, where
// it is named first.
func (p *planner) filesOf(parts ...part) (uses []envUse) {
	for _, part := range parts {
		if replaces(member(part.s, "env_file")) {
			uses = nil
		}
		for _, use := range p.namedBy(part) {
			if !slices.ContainsFunc(uses, func(u envUse) bool { return u.path == use.path }) {
				uses = append(uses, use)
			}
		}
	}
	return uses
}

func (p *planner) namedBy(part part) (uses []envUse) {
	n := member(part.s, "env_file")
	items := []*yaml.Node{n}
	if n != nil && n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, item := range items {
		if use, ok := p.useOf(part, item); ok {
			uses = append(uses, use)
		}
	}
	return uses
}

func (p *planner) useOf(part part, item *yaml.Node) (use envUse, ok bool) {
	use = envUse{part: part, node: follow(item)}
	if use.node != nil && use.node.Kind == yaml.MappingNode {
		if format := member(item, "format"); format != nil {
			use.format = format.Value
		}
		use.node = member(item, "path")
	}
	if use.node == nil || use.node.Kind != yaml.ScalarNode || use.node.Tag == "!!null" {
		return use, false
	}
	if path, err := template.Substitute(use.node.Value, p.lookup); err == nil && path != "" {
		use.path = part.doc.abs(path)
	}
	return use, true
}

func (c *composeFile) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(c.dir, path)
}

// readUse reads an env_file of a service; nil when it cannot be read.
func (p *planner) readUse(service string, use envUse, vars map[string]string, look lookup) *Env {
	left := func(format string, args ...any) {
		if !use.doc.seen[use.node] && !use.doc.foreign {
			p.left(use.doc.at(use.node)+", service "+service, format, args...)
		}
		use.doc.seen[use.node] = true
	}
	text, err := p.in.Read(use.path)
	if err != nil {
		left("its env_file %s cannot be read", use.node.Value)
		return nil
	}
	e, err := readEnv(File{use.path, text}, use.format, vars, look)
	if err != nil {
		// Whatever it sets may count more than what another file says.
		left("its env_file %s cannot be read: what its env_files hold stays there", use.node.Value)
		p.fixed[service] = true
		return nil
	}
	if strings.Contains(use.node.Value, "$") {
		left("the name of its env_file has a variable in it: what the file holds stays there")
	}
	switch known := p.envAt(use.path); {
	case use.doc.foreign:
	case known == nil:
		p.envs = append(p.envs, e)
	case known.format != use.format:
		left("its env_file %s has another format in another place: what its env_files hold stays there", use.node.Value)
		p.fixed[service] = true
	}
	return e
}

// editable reports whether an env_file can be another one.
func (p *planner) editable(u envUse) bool {
	return !u.doc.foreign && u.path != "" && !p.pinned[u.path] && !strings.Contains(u.node.Value, "$")
}

// additions finds out which variables leave their files, and in what environment each is
// needed then: in that of the service in the document which names the file.
func (p *planner) additions() {
	given, parts, names := map[string][]provided{}, map[string][]part{}, []string{}
	for _, d := range p.docs {
		each(member(d.top, "services"), func(key, value *yaml.Node) {
			name := key.Value
			if parts[name] == nil && follow(value).Kind == yaml.MappingNode {
				names = append(names, name)
				parts[name] = p.parts(name)
				given[name] = p.given(name, parts[name])
			}
		})
	}
	for name := range p.fixed {
		for _, use := range p.filesOf(parts[name]...) {
			p.pinned[use.path] = true
		}
	}
	type place struct{ path, name string }
	why := map[place]string{} // what is a secret to one service is taken out for all
	for _, name := range names {
		for _, v := range given[name] {
			if at := (place{v.from.path, v.name}); p.editable(v.from) && why[at] == "" {
				why[at] = v.why
			}
		}
	}
	for _, name := range names {
		for i := range given[name] {
			v := &given[name][i]
			if v.why = ""; p.editable(v.from) {
				v.why = why[place{v.from.path, v.name}]
			}
			if v.why != "" && v.to.service == name {
				p.added[v.to.s] = append(p.added[v.to.s], *v)
			}
		}
	}
	for _, name := range names {
		own := slices.DeleteFunc(slices.Clone(parts[name]), func(part part) bool { return part.doc.foreign || part.service != name })
		last := own[len(own)-1]
		for _, v := range given[name] {
			// What it extends has it from elsewhere, or has another value.
			if has := p.inherited(parts[name], v.name); has.value != v.value || has.why != v.why {
				if has.why+v.why != "" {
					p.added[last.s] = append(p.added[last.s], v)
				}
			}
		}
	}
}

// inherited returns what was added to the last part of a service that got a variable.
func (p *planner) inherited(parts []part, name string) (has provided) {
	for _, part := range parts {
		for _, v := range p.added[part.s] {
			if v.name == name {
				has = v
			}
		}
	}
	return has
}

// fromFiles gives a service references to what its env_files gave it before.
func (p *planner) fromFiles(d *document, service string, s *yaml.Node) {
	want := p.needs[s]
	for _, v := range p.added[s] {
		entry := variable{name: v.name, text: strings.ReplaceAll(v.value, "$", "$$"), given: true}
		if v.why != "" {
			name := p.secretFor(service, v.name, v.value, v.why, fmt.Sprintf("%s:%d %s", v.from.path, v.envVar.from+1, v.name))
			entry.text = "dso://" + name
			p.lose(v.from.path, v.name, name)
			p.uses(v.of, name)
			d.changed(v.from.node, "%s of %s becomes dso://%s in the environment of %s", v.name, v.from.node.Value, name, service)
		}
		want = append(want, entry)
	}
	settle(s, want)
}

// settle gives a service an environment of its own, where the one that it has or shares
// is not what it needs: an anchor may have got what only another service needs.
func settle(s *yaml.Node, want []variable) {
	env := member(s, "environment")
	missing, fits := lacks(env, want)
	if fits && len(missing) == 0 {
		return
	}
	if s.Kind == yaml.AliasNode {
		shared := *s
		*s = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{mergeKey(), &shared}}
	}
	own := entry(s, "environment")
	switch {
	case fits && own != nil && own.Kind == yaml.MappingNode:
		own.Content = append(own.Content, pairs(missing)...)
	case fits && own != nil && own.Kind == yaml.SequenceNode:
		own.Content = append(own.Content, items(missing)...)
	case fits && env != nil && env.Kind == yaml.MappingNode && env.Anchor != "":
		alias := &yaml.Node{Kind: yaml.AliasNode, Value: env.Anchor, Alias: env}
		put(s, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: append([]*yaml.Node{mergeKey(), alias}, pairs(missing)...)})
	case env != nil && env.Kind == yaml.SequenceNode:
		put(s, &yaml.Node{Kind: yaml.SequenceNode, Tag: env.Tag, Content: items(want)})
	case env != nil && env.Kind == yaml.MappingNode:
		put(s, &yaml.Node{Kind: yaml.MappingNode, Tag: env.Tag, Content: pairs(want)})
	default:
		put(s, &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: pairs(want)})
	}
}

// lacks returns what an environment does not have, and whether all that it has is wanted.
func lacks(env *yaml.Node, want []variable) (missing []variable, fits bool) {
	has := map[string]variable{}
	for _, v := range effective(env) {
		has[v.name] = v
	}
	for _, v := range want {
		got, ok := has[v.name]
		delete(has, v.name)
		switch {
		case !ok:
			missing = append(missing, v)
		case v.node != nil && v.node != got.node, v.node == nil && v.text != got.text:
			return nil, false
		}
	}
	return missing, len(has) == 0
}

func mergeKey() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!merge", Value: "<<"} }

// entry returns the value of a key that a mapping has itself, and an alias as such.
func entry(n *yaml.Node, key string) (value *yaml.Node) {
	each(n, func(k, v *yaml.Node) {
		if k.Value == key {
			value = v
		}
	})
	return value
}

func put(s, env *yaml.Node) {
	for i := 0; i+1 < len(s.Content); i += 2 {
		if s.Content[i].Value == "environment" {
			s.Content[i+1] = env
			return
		}
	}
	s.Content = append(s.Content, scalar("environment"), env)
}

// pairs and items are entries of a mapping and of a list, without comments.
func pairs(vars []variable) (content []*yaml.Node) {
	for _, v := range vars {
		value := scalar(v.text)
		if v.node != nil {
			value = &yaml.Node{Kind: yaml.ScalarNode, Tag: v.node.Tag, Value: v.node.Value, Style: v.node.Style}
		}
		content = append(content, scalar(v.name), value)
	}
	return content
}

func items(vars []variable) (content []*yaml.Node) {
	for _, v := range vars {
		text := v.name + "=" + v.text
		if v.node != nil {
			text = v.node.Value
		}
		content = append(content, scalar(text))
	}
	return content
}
