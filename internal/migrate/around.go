package migrate

import (
	"errors"
	"path/filepath"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"
)

// around reads the files that a file includes or extends from: what they say counts, and
// they are not written anew.
func (p *planner) around(c *composeFile) {
	for _, d := range c.docs {
		if list := member(d.top, "include"); list != nil && list.Kind == yaml.SequenceNode {
			for _, item := range list.Content {
				p.include(d, follow(item))
			}
		}
		each(member(d.top, "services"), func(_, s *yaml.Node) {
			if file := member(member(s, "extends"), "file"); file != nil && p.extended[file] == nil {
				p.extended[file] = p.other(d, file, "")
			}
		})
	}
}

func (p *planner) include(d *document, item *yaml.Node) {
	path, dir := item, ""
	if item.Kind == yaml.MappingNode {
		path = member(item, "path")
		if n := member(item, "project_directory"); n != nil {
			dir = d.abs(n.Value)
		}
	}
	paths := []*yaml.Node{path}
	if path != nil && path.Kind == yaml.SequenceNode {
		paths = path.Content
	}
	for _, n := range paths {
		if n = follow(n); n == nil || n.Kind != yaml.ScalarNode {
			continue
		}
		if c := p.other(d, n, dir); c != nil {
			p.included[d] = append(p.included[d], c)
			if dir == "" {
				dir = c.dir // the first of them says what all begin at
			}
		}
	}
}

// deepest is how many files may name each other one after another: a link to a directory
// may make that endless.
const deepest = 50

// other reads one such file, and those that it names in turn; nil when it cannot be read.
func (p *planner) other(d *document, n *yaml.Node, dir string) *composeFile {
	path, err := template.Substitute(n.Value, p.lookup)
	var text []byte
	if err == nil {
		path = d.abs(path)
		text, err = p.in.Read(path)
	}
	if d.depth > deepest {
		err = errors.New("too deep")
	}
	if dir == "" {
		dir = filepath.Dir(path)
	}
	var c *composeFile
	if err == nil {
		c, err = parseFile(File{path, text}, dir)
	}
	if err != nil {
		p.blind = d.at(n)
		p.left(d.at(n), "%s cannot be read: what is secret in it stays, and so does all that it may interpolate", n.Value)
		return nil
	}
	p.left(d.at(n), "%s is not written anew: docker dso migrate -p %s -f %s does it, and this place can name the new file then", n.Value, p.in.Project, path)
	if known := p.others[path]; known != nil {
		return known
	}
	c.foreign, c.depth = true, d.depth+1
	p.others[path] = c
	for _, d := range c.docs {
		each(member(d.top, "services"), func(key, s *yaml.Node) {
			for _, use := range p.namedBy(part{d, key.Value, s}) {
				if text, err := p.in.Read(use.path); err == nil {
					if e, err := readEnv(File{use.path, text}, use.format, map[string]string{}, p.lookup); err == nil {
						p.foreign = append(p.foreign, e)
					}
				}
			}
		})
	}
	p.around(c)
	return c
}
