package migrate

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// runSecrets is where Compose mounts the secrets of its own.
const runSecrets = "/run/secrets/"

// mount is the list of Compose's secrets of a service, which an anchor may share, and
// those of them that a variable names.
type mount struct {
	service string
	s, list *yaml.Node
	done    map[string]bool
}

// sourceOf returns which secret an entry of such a list is, and its path in the container.
func sourceOf(item *yaml.Node) (source, target string) {
	item = follow(item)
	source, target = item.Value, item.Value
	if n := member(item, "source"); n != nil {
		source, target = n.Value, n.Value
	}
	if n := member(item, "target"); n != nil {
		target = n.Value
	}
	if !strings.HasPrefix(target, "/") {
		target = runSecrets + target
	}
	return source, target
}

// fileSecrets changes the variables that name a file of Compose's secrets to references
// of ours, where the file's content is known.
func (p *planner) fileSecrets(d *document, service string, s *yaml.Node) {
	list := member(s, "secrets")
	if list == nil || list.Kind != yaml.SequenceNode {
		return
	}
	used := map[string]string{} // the secret of each by its path in the container
	for _, item := range list.Content {
		source, target := sourceOf(item)
		used[target] = source
	}
	m := mount{service, s, list, map[string]bool{}}
	for _, v := range effective(member(s, "environment")) {
		if source, before := d.filed[v.node]; before {
			m.done[source] = true
			continue
		}
		source, ok := used[v.text]
		if !ok {
			continue
		}
		path, from, ok := p.content(source)
		if !ok {
			continue
		}
		text, err := p.in.Read(path)
		if err != nil {
			p.left(from+", secret "+source, "its file cannot be read")
			continue
		}
		name := p.secretFor("", source, string(text), "it is a secret of Compose", from+" secret "+source)
		d.refer(v, "dsofile://"+name)
		d.changed(v.node, "%s becomes dsofile://%s", v.name, name)
		d.filed[v.node], m.done[source] = source, true
	}
	d.mounts = append(d.mounts, m)
}

// unmount takes out of the lists what no service needs to have mounted any more.
func (p *planner) unmount(d *document) {
	for _, m := range d.mounts {
		var keep []*yaml.Node
		for _, item := range m.list.Content {
			source, _ := sourceOf(item)
			var sharing []string
			needed := false
			for _, o := range d.mounts {
				if o.list == m.list {
					sharing = append(sharing, o.service)
					needed = needed || !o.done[source]
				}
			}
			if !needed {
				d.changed(follow(item), "secret %s is no longer mounted into %s", source, strings.Join(sharing, ", "))
				continue
			}
			if _, from, ok := p.content(source); ok && !m.done[source] {
				p.left(from+", secret "+source, "service %s reads it from %s itself: let a variable name its file, as dsofile://%s", m.service, runSecrets+source, pathOf(source))
			}
			keep = append(keep, item)
		}
		m.list.Content = keep
		if len(keep) == 0 {
			drop(m.s, "secrets")
		}
	}
}

// content returns the file of one of Compose's secrets, and where that is said.
func (p *planner) content(source string) (path, from string, ok bool) {
	for _, d := range slices.Backward(p.docs) {
		if file := member(member(member(d.top, "secrets"), source), "file"); file != nil {
			return d.abs(file.Value), d.at(file), !strings.Contains(file.Value, "$")
		}
	}
	return "", "", false
}

// unusedSecrets removes what no service mounts any more, if it did before.
func (p *planner) unusedSecrets(d *document) {
	defs := member(d.top, "secrets")
	if defs == nil || defs.Kind != yaml.MappingNode || len(d.changes) == 0 {
		return
	}
	still := map[string]bool{}
	for _, other := range p.docs {
		each(member(other.top, "services"), func(_, s *yaml.Node) {
			if list := member(s, "secrets"); list != nil {
				for _, item := range list.Content {
					source, _ := sourceOf(item)
					still[source] = true
				}
			}
		})
	}
	var names []string
	each(defs, func(key, _ *yaml.Node) { names = append(names, key.Value) })
	for _, name := range names {
		if _, known := p.names[pathOf(name)]; known && !still[name] {
			drop(defs, name)
			d.changed(defs, "secret %s is no longer defined", name)
		}
	}
	if len(defs.Content) == 0 {
		drop(d.top, "secrets")
	}
}
