package migrate

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// occurrence is where a scalar stands, itself or by an alias.
type occurrence struct {
	in  *yaml.Node
	at  int
	env bool // it is an entry of an environment
}

// unshare gives back its value to what shares an anchor with an entry of an environment,
// and is in another place: a reference is not resolved there.
func (p *planner) unshare(d *document) {
	var anchors []*yaml.Node
	places := map[*yaml.Node][]occurrence{}
	literal := map[*yaml.Node]bool{} // the anchor itself is in such a place
	var walk func(n *yaml.Node, extension bool)
	walk = func(n *yaml.Node, extension bool) {
		for i, c := range n.Content {
			o, below := occurrence{n, i, d.seen[n]}, extension
			if n == d.top {
				below = strings.HasPrefix(n.Content[i-i%2].Value, "x-")
			}
			switch {
			case c.Kind == yaml.AliasNode && d.was[c.Alias] != nil:
				places[c.Alias] = append(places[c.Alias], o)
			case d.was[c] == nil:
				walk(c, below)
			case o.env, below && (n == d.top || n.Anchor == ""):
				// In an extension it may only be there to be an anchor.
				anchors = append(anchors, c)
			default:
				anchors, literal[c] = append(anchors, c), true
				places[c] = append(places[c], o)
			}
		}
	}
	walk(d.top, false)
	for _, n := range anchors {
		ref := *n
		for _, o := range places[n] {
			c := o.in.Content[o.at]
			switch {
			case !o.env:
				value := *d.was[n]
				value.Anchor, value.Line = "", c.Line
				o.in.Content[o.at] = &value
				p.left(d.at(c), "it stays, though it is a secret in an environment: a reference is not resolved in this place")
			case literal[n]:
				value := ref
				value.Line = c.Line
				value.Anchor, value.HeadComment, value.LineComment, value.FootComment = "", c.HeadComment, c.LineComment, c.FootComment
				o.in.Content[o.at] = &value
			}
		}
	}
}
