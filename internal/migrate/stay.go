package migrate

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"
)

// stay keeps in the environment files of Compose what something still needs of them.
func (p *planner) stay() {
	need := map[string]string{} // by what, by variable
	note := func(by string, names ...string) {
		for _, name := range names {
			if need[name] == "" {
				need[name] = by
			}
		}
	}
	for _, d := range p.docs {
		note("a Compose file", neededBy(d)...)
	}
	for _, path := range slices.Sorted(maps.Keys(p.others)) {
		for _, d := range p.others[path].docs {
			note(path, neededBy(d)...)
		}
	}
	for _, e := range p.foreign {
		for _, v := range e.vars {
			note(e.Path, e.interpolates(v)...)
		}
	}
	// What stays may need another that was to go.
	for again := true; again; {
		for _, e := range p.envs {
			for _, v := range e.vars {
				if p.gone[e.Path][v.name] == "" {
					note(e.Path, e.interpolates(v)...)
				}
			}
		}
		again = false
		for _, e := range p.envs {
			for _, v := range e.vars {
				again = p.keep(e, v.name, need[v.name]) || again
			}
		}
	}
	maps.DeleteFunc(p.gone, func(_ string, gone map[string]string) bool { return len(gone) == 0 })
}

// keep keeps a variable in an environment file of Compose, if something needs it.
func (p *planner) keep(e *Env, name, by string) bool {
	if !p.isEnv(e.Path) || p.gone[e.Path][name] == "" || by == "" && p.blind == "" {
		return false
	}
	delete(p.gone[e.Path], name)
	p.kept[e.Path+"\x00"+name] = true
	where := fmt.Sprintf("%s:%d", e.Path, e.Line(name))
	if by == "" {
		p.left(where, "%s stays: what %s names may interpolate it", name, p.blind)
	} else {
		p.left(where, "%s stays: %s interpolates it in another place too", name, by)
	}
	return true
}

// neededBy are the variables that a document takes from the environment of Compose.
func neededBy(d *document) (names []string) {
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			names = append(names, variablesIn(n.Value)...)
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(d.root)
	bare := func(env *yaml.Node) {
		for _, v := range effective(env) {
			if !v.given {
				names = append(names, v.name)
			}
		}
	}
	for _, key := range []string{"services", "jobs"} {
		each(member(d.top, key), func(_, s *yaml.Node) {
			bare(member(s, "environment"))
			bare(member(member(s, "build"), "args"))
			for _, key := range []string{"pre_start", "post_start", "pre_stop"} {
				if hooks := member(s, key); hooks != nil {
					for _, hook := range hooks.Content {
						bare(member(hook, "environment"))
					}
				}
			}
		})
	}
	for _, key := range []string{"secrets", "configs"} {
		each(member(d.top, key), func(_, def *yaml.Node) {
			if n := member(def, "environment"); n != nil {
				names = append(names, n.Value)
			}
		})
	}
	return names
}

// unmoved says which variables of the environment files look like secrets and stay there.
func (p *planner) unmoved() {
	for _, e := range p.envs {
		reason := "no reference takes its place"
		if p.isEnv(e.Path) {
			reason = "no environment uses this value"
		}
		for _, v := range e.vars {
			if e.Line(v.name) == v.from+1 && p.why(v.name, v.value) != "" && p.gone[e.Path][v.name] == "" && !p.kept[e.Path+"\x00"+v.name] {
				p.left(fmt.Sprintf("%s:%d", e.Path, v.from+1), "%s looks like a secret and stays: %s", v.name, reason)
			}
		}
	}
}

// besides lets the services have the new env_files.
func (p *planner) besides(d *document) {
	each(member(d.top, "services"), func(key, s *yaml.Node) {
		for _, use := range p.namedBy(part{d, key.Value, s}) {
			if !p.editable(use) || p.gone[use.path] == nil || d.renamed[use.node] {
				continue
			}
			d.renamed[use.node] = true
			fresh := Beside(use.node.Value)
			d.changed(use.node, "env_file is %s", fresh)
			replace(use.node, fresh)
		}
	})
}
