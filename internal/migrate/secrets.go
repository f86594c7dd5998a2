package migrate

import (
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// runSecrets is where Compose mounts the secrets of its own.
const runSecrets = "/run/secrets/"

// fileSecrets changes the variables that name a file of Compose's secrets to references
// of ours, where the file's content is known.
func (p *planner) fileSecrets(d *document, service string, s *yaml.Node) error {
	list := member(s, "secrets")
	if list == nil || list.Kind != yaml.SequenceNode || d.seen[list] {
		return nil
	}
	d.seen[list] = true
	used := map[string]string{} // the file of each by its path in the container
	for _, item := range list.Content {
		item = follow(item)
		source, target := item.Value, item.Value
		if item.Kind == yaml.MappingNode {
			if n := member(item, "source"); n != nil {
				source, target = n.Value, n.Value
			}
			if n := member(item, "target"); n != nil {
				target = n.Value
			}
		}
		if !strings.HasPrefix(target, "/") {
			target = runSecrets + target
		}
		used[target] = source
	}
	done := map[string]bool{}
	for _, v := range variables(member(s, "environment"), map[*yaml.Node]bool{}) {
		source, ok := used[v.text]
		if !ok {
			continue
		}
		path, from, ok := p.content(d, source)
		if !ok {
			continue
		}
		text, err := p.in.Read(path)
		if err != nil {
			p.left(from+", secret "+source, "its file cannot be read")
			continue
		}
		name := p.secretFor("", source, string(text), "it is a secret of Compose", from+" secret "+source)
		v.refer("dsofile://" + name)
		d.changed(v.node, "%s becomes dsofile://%s", v.name, name)
		done[source] = true
	}
	var keep []*yaml.Node
	for _, item := range list.Content {
		node := follow(item)
		source := node.Value
		if n := member(node, "source"); n != nil {
			source = n.Value
		}
		if done[source] {
			d.changed(node, "secret %s is no longer mounted into %s", source, service)
			continue
		}
		if _, from, ok := p.content(d, source); ok {
			p.left(from+", secret "+source, "service %s reads it from %s itself: let a variable name its file, as dsofile://%s", service, runSecrets+source, pathOf(source))
		}
		keep = append(keep, item)
	}
	list.Content = keep
	if len(keep) == 0 {
		drop(s, "secrets")
	}
	return nil
}

// content returns the file of one of Compose's secrets, and where that is said.
func (p *planner) content(d *document, source string) (path, from string, ok bool) {
	def := member(member(d.root.Content[0], "secrets"), source)
	file := member(def, "file")
	if file == nil || strings.Contains(file.Value, "$") {
		return "", "", false
	}
	path = file.Value
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(d.path), path)
	}
	return path, d.at(file), true
}

// unusedSecrets removes what no service mounts any more, if it did before.
func (p *planner) unusedSecrets(d *document) {
	top := d.root.Content[0]
	defs := member(top, "secrets")
	if defs == nil || defs.Kind != yaml.MappingNode || len(d.changes) == 0 {
		return
	}
	still := map[string]bool{}
	each(member(top, "services"), func(_, s *yaml.Node) {
		list := member(s, "secrets")
		if list == nil {
			return
		}
		for _, item := range list.Content {
			item = follow(item)
			still[item.Value] = true
			if n := member(item, "source"); n != nil {
				still[n.Value] = true
			}
		}
	})
	var names []string
	each(defs, func(key, _ *yaml.Node) { names = append(names, key.Value) })
	for _, name := range names {
		if _, known := p.names[pathOf(name)]; known && !still[name] {
			drop(defs, name)
			d.changed(defs, "secret %s is no longer defined", name)
		}
	}
	if len(defs.Content) == 0 {
		drop(top, "secrets")
	}
}
