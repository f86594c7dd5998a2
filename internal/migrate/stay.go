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
	note := func(name, by string) {
		if need[name] == "" {
			need[name] = by
		}
	}
	for _, d := range p.docs {
		neededBy(d, func(name string) { note(name, "a Compose file") })
	}
	for _, path := range slices.Sorted(maps.Keys(p.others)) {
		for _, d := range p.others[path].docs {
			neededBy(d, func(name string) { note(name, path) })
		}
	}
	for _, e := range p.foreign {
		for _, v := range e.vars {
			for _, name := range e.interpolates(v) {
				note(name, e.Path)
			}
		}
	}
	for again := true; again; {
		again = false
		for _, e := range p.envs {
			for _, v := range e.vars {
				if p.gone[e.Path][v.name] != "" {
					continue
				}
				for _, name := range e.interpolates(v) {
					note(name, e.Path)
				}
			}
		}
		for _, e := range p.envs {
			for _, v := range e.vars {
				by, needed := need[v.name]
				if p.blind != "" && !needed {
					by, needed = p.blind, true
				}
				if needed && p.isEnv(e.Path) && p.gone[e.Path][v.name] != "" {
					delete(p.gone[e.Path], v.name)
					p.kept[e.Path+"\x00"+v.name] = true
					p.left(fmt.Sprintf("%s:%d", e.Path, e.Line(v.name)), "%s stays: %s interpolates it in another place too", v.name, by)
					again = true
				}
			}
		}
	}
	for path, gone := range p.gone {
		if len(gone) == 0 {
			delete(p.gone, path)
		}
	}
}

// neededBy calls do for the variables that a document takes from the environment of Compose.
func neededBy(d *document, do func(name string)) {
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			for _, name := range variablesIn(n.Value) {
				do(name)
			}
		}
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(d.root)
	each(member(d.top, "services"), func(_, s *yaml.Node) {
		for _, env := range []*yaml.Node{member(s, "environment"), member(member(s, "build"), "args")} {
			for _, v := range effective(env) {
				if !v.given {
					do(v.name)
				}
			}
		}
	})
	for _, key := range []string{"secrets", "configs"} {
		each(member(d.top, key), func(_, def *yaml.Node) {
			if n := member(def, "environment"); n != nil {
				do(n.Value)
			}
		})
	}
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
