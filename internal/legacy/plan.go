package legacy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/label"
)

// Do is what is done with a leftover.
type Do string

// What can be done, in the order in which it is.
const (
	Restore Do = "restore" // start it and, once it is healthy, give it the name
	Remove  Do = "remove"  // stop it if it runs, and remove it; its volumes stay
	Report  Do = "report"  // nothing: it is for a person
)

var order = []Do{Restore, Remove, Report}

// Observed is what a plan is made from.
type Observed struct {
	Containers []engine.Container
	// Ours says that a container belongs to a rotation of the journal, Busy that a
	// rotation which is not over is about a container of that name.
	Ours func(id string) bool
	Busy func(name string) bool
}

// Item is one leftover and what is to be done with it.
type Item struct {
	ID, Name, Of string
	Do           Do
	Why          string
	// Else is the id of the leftover that gets the name if this one does not become
	// healthy.
	Else     string
	Commands []string // for a person
}

// Plan decides about every leftover. It is pure.
func Plan(o Observed) []Item {
	found := Find(o.Containers, o.Ours)
	var items []Item
	for len(found) > 0 {
		of := found[0].Of
		group := slices.Clone(found)
		group = slices.DeleteFunc(group, func(l Leftover) bool { return l.Of != of })
		found = slices.DeleteFunc(found, func(l Leftover) bool { return l.Of == of })
		items = append(items, o.group(of, group)...)
	}
	slices.SortStableFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Do), slices.Index(order, b.Do)), strings.Compare(a.Name, b.Name))
	})
	return items
}

// group decides about the leftovers of one name.
func (o Observed) group(of string, group []Leftover) []Item {
	i := slices.IndexFunc(o.Containers, func(c engine.Container) bool { return c.Name == of })
	var items []Item
	var unclear string
	switch _, _, _, nested := parse(of); {
	case nested:
		unclear = fmt.Sprintf("%s is such a name itself", of)
	case o.Busy(of):
		unclear = fmt.Sprintf("a rotation of %s is not over; ask again after it", of)
	}
	var dated []Leftover
	for _, l := range group {
		switch {
		case unclear != "":
			items = append(items, l.report(unclear))
		case l.When.IsZero():
			items = append(items, l.report("its name does not end in a time: it may be yours"))
		case i >= 0:
			items = append(items, l.beside(o.Containers[i]))
		default:
			dated = append(dated, l)
		}
	}
	return append(items, missing(of, dated)...)
}

// beside decides about a leftover whose name's container exists.
func (l Leftover) beside(c engine.Container) Item {
	switch {
	case !copies(l.Container, c):
		return l.report(fmt.Sprintf("%s is made from another image or belongs to another service: it is not a copy of it", c.Name))
	case !c.Running():
		return l.report(fmt.Sprintf("%s is %s: nothing says which of the two is to serve", c.Name, c.State.Status))
	case c.State.Health != "" && c.State.Health != container.Healthy && c.State.Health != container.NoHealthcheck:
		return l.report(fmt.Sprintf("%s is %s: nothing says which of the two is to serve", c.Name, c.State.Health))
	}
	if m, only := onlyHere(l.Container, c); only {
		return l.report(fmt.Sprintf("it has the volume %s at %s, which %s does not have: data may be only there", m.Name, m.Destination, c.Name))
	}
	why := fmt.Sprintf("%s runs", c.Name)
	if c.State.Health == container.Healthy {
		why = fmt.Sprintf("%s runs and is healthy", c.Name)
	}
	return Item{ID: l.ID, Name: l.Name, Of: l.Of, Do: Remove, Why: why + ", and this one is a copy of it; " + l.state()}
}

// missing decides about leftovers of a name that no container has.
func missing(of string, group []Leftover) []Item {
	before := slices.DeleteFunc(slices.Clone(group), Leftover.newer)
	after := slices.DeleteFunc(slices.Clone(group), func(l Leftover) bool { return !l.newer() })
	unclear := ""
	switch {
	case len(before) > 1 || len(after) > 1:
		unclear = fmt.Sprintf("%s does not exist, and several could have the name", of)
	case len(before) == 1 && len(after) == 1 && !copies(before[0].Container, after[0].Container):
		unclear = fmt.Sprintf("%s does not exist, and two that differ could have the name", of)
	case len(before) == 1 && len(after) == 1 && after[0].active() && !before[0].active():
		unclear = fmt.Sprintf("%s does not exist; %s runs and %s, which was there before it, does not", of, after[0].Name, before[0].Name)
	}
	if unclear != "" {
		var items []Item
		for _, l := range group {
			items = append(items, l.report(unclear))
		}
		return items
	}
	candidates := slices.Concat(before, after)
	if len(candidates) == 0 {
		return nil
	}
	first := candidates[0]
	item := Item{ID: first.ID, Name: first.Name, Of: of, Do: Restore, Why: fmt.Sprintf("%s does not exist; %s", of, first.state())}
	if len(candidates) == 1 {
		return []Item{item}
	}
	second := candidates[1]
	item.Else = second.ID
	item.Why += fmt.Sprintf("; if it does not become healthy, %s gets the name", second.Name)
	if m, only := onlyHere(second.Container, first.Container); only {
		return []Item{item, second.report(fmt.Sprintf("it has the volume %s at %s, which %s does not have: data may be only there", m.Name, m.Destination, first.Name))}
	}
	return []Item{item, {ID: second.ID, Name: second.Name, Of: of, Do: Remove, Why: fmt.Sprintf("once %s has the name %s and is healthy, this one is a copy of it", first.Name, of)}}
}

// copies reports whether two containers are made for the same thing.
func copies(a, b engine.Container) bool {
	if a.Project() != b.Project() || a.Service() != b.Service() {
		return false
	}
	if a.Project() != "" && a.Service() != "" {
		return true
	}
	return image(a) != "" && image(a) == image(b)
}

// image is the image as the user named it.
func image(c engine.Container) string {
	if named := c.Label(label.Image); named != "" {
		return named
	}
	if c.Spec.Config == nil {
		return ""
	}
	return c.Spec.Config.Image
}

// onlyHere returns a volume of a that b does not have.
func onlyHere(a, b engine.Container) (engine.Mount, bool) {
	for _, m := range a.Mounts {
		if m.Type == string(mount.TypeVolume) && !slices.ContainsFunc(b.Mounts, func(o engine.Mount) bool { return o.Name == m.Name }) {
			return m, true
		}
	}
	return engine.Mount{}, false
}

// active reports whether a process of it runs, or will again by itself.
func (l Leftover) active() bool {
	switch l.State.Status {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return true
	}
	return false
}

func (l Leftover) state() string {
	if l.State.Health != "" && l.State.Health != container.NoHealthcheck {
		return fmt.Sprintf("it is %s, %s", l.State.Status, l.State.Health)
	}
	return fmt.Sprintf("it is %s", l.State.Status)
}

// report leaves a leftover to a person.
func (l Leftover) report(why string) Item {
	return Item{ID: l.ID, Name: l.Name, Of: l.Of, Do: Report, Why: why, Commands: []string{
		"docker inspect " + l.Name,
		fmt.Sprintf("docker rename %s %s && docker start %s", l.Name, l.Of, l.Of),
		fmt.Sprintf("docker stop %s && docker rm %s", l.Name, l.Name),
	}}
}
