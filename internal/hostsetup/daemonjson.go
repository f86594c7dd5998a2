package hostsetup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// The keys of daemon.json that are ours to set, see dockerd(8).
const (
	keyRuntimes = "runtimes"
	keyDefault  = "default-runtime"
	stock       = "runc"
)

// registered is what a daemon.json says of the runtimes.
type registered struct {
	Runtimes map[string]struct {
		Path string   `json:"path"`
		Args []string `json:"runtimeArgs"`
	} `json:"runtimes"`
	Default string `json:"default-runtime"`
}

func readRegistered(content []byte) (r registered, err error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return r, nil
	}
	plain, err := hujson.Standardize(slices.Clone(content))
	if err == nil {
		err = json.Unmarshal(plain, &r)
	}
	return r, err
}

// register returns a daemon.json that registers dso-runtime, and the same bytes when it
// does so already. What is there stays as it is: order, indentation, comments; other
// arguments of the runtime too.
func register(content []byte, want Registration) ([]byte, error) {
	have, err := readRegistered(content)
	if err != nil {
		return nil, err
	}
	doc, err := parseDaemon(content)
	if err != nil {
		return nil, err
	}
	top := doc.Value.(*hujson.Object)
	changed := false
	if have.Runtimes[RuntimeName].Path != want.Path {
		changed = true
		runtimes, err := child(top, keyRuntimes)
		if err != nil {
			return nil, err
		}
		own, err := child(runtimes, RuntimeName)
		if err != nil {
			return nil, err
		}
		set(own, "path", want.Path)
	}
	if want.Default && have.Default != RuntimeName {
		changed = true
		set(top, keyDefault, RuntimeName)
	}
	if !changed {
		return content, nil
	}
	return ended(doc.Pack()), nil
}

// unregister returns a daemon.json without what [register] adds.
func unregister(content []byte) ([]byte, error) {
	return edit(content, func(top *hujson.Object, have registered) {
		if have.Default == RuntimeName {
			remove(top, keyDefault)
		}
		if _, ours := have.Runtimes[RuntimeName]; !ours {
			return
		}
		if runtimes, err := child(top, keyRuntimes); err == nil {
			remove(runtimes, RuntimeName)
			if len(runtimes.Members) == 0 {
				remove(top, keyRuntimes)
			}
		}
	})
}

// forget returns a daemon.json that makes a running engine forget the runtime. An engine
// that reads a file without a key keeps what the key said before, so the keys are there
// and say nothing.
func forget(content []byte) ([]byte, error) {
	return edit(content, func(top *hujson.Object, have registered) {
		if runtimes, err := child(top, keyRuntimes); err == nil {
			remove(runtimes, RuntimeName)
		}
		if have.Default == "" || have.Default == RuntimeName {
			set(top, keyDefault, stock)
		}
	})
}

func edit(content []byte, change func(*hujson.Object, registered)) ([]byte, error) {
	have, err := readRegistered(content)
	if err != nil {
		return nil, err
	}
	doc, err := parseDaemon(content)
	if err != nil {
		return nil, err
	}
	change(doc.Value.(*hujson.Object), have)
	return ended(doc.Pack()), nil
}

func ended(text []byte) []byte {
	return append(bytes.TrimRight(text, "\n"), '\n')
}

// parseDaemon parses a daemon.json; an empty one is an object without members.
func parseDaemon(content []byte) (hujson.Value, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		content = []byte("{\n}\n")
	}
	doc, err := hujson.Parse(content)
	if err != nil {
		return doc, err
	}
	if _, ok := doc.Value.(*hujson.Object); !ok {
		return doc, fmt.Errorf("it holds no JSON object")
	}
	return doc, nil
}

func find(o *hujson.Object, name string) int {
	return slices.IndexFunc(o.Members, func(m hujson.ObjectMember) bool {
		l, ok := m.Name.Value.(hujson.Literal)
		return ok && l.String() == name
	})
}

// child returns the object that is a member, and makes it.
func child(o *hujson.Object, name string) (*hujson.Object, error) {
	i := find(o, name)
	if i < 0 {
		i = add(o, name, &hujson.Object{})
	}
	c, ok := o.Members[i].Value.Value.(*hujson.Object)
	if !ok {
		return nil, fmt.Errorf("%q is not an object", name)
	}
	return c, nil
}

func set(o *hujson.Object, name, value string) {
	if i := find(o, name); i >= 0 {
		o.Members[i].Value.Value = hujson.String(value)
		return
	}
	add(o, name, hujson.String(value))
}

// add appends a member, laid out as its neighbours are.
func add(o *hujson.Object, name string, value hujson.ValueTrimmed) int {
	before := ""
	switch n := len(o.Members); {
	case n > 0:
		before = layout(o.Members[n-1].Name.BeforeExtra)
		if n == 1 && before == "" {
			before = " "
		}
	case strings.Contains(string(o.AfterExtra), "\n"):
		before = "\n  "
	}
	if line, rest, more := strings.Cut(string(o.AfterExtra), "\n"); more && strings.TrimSpace(line) != "" {
		before, o.AfterExtra = line+before, hujson.Extra("\n"+rest) // a comment about the neighbour
	}
	o.Members = append(o.Members, hujson.ObjectMember{
		Name:  hujson.Value{BeforeExtra: hujson.Extra(before), Value: hujson.String(name)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: value},
	})
	return len(o.Members) - 1
}

// layout is the white space at the end of what stands before a member: its indentation,
// without comments that are about that member.
func layout(extra hujson.Extra) string {
	s := string(extra)
	trimmed := strings.TrimRight(s, " \t\r\n")
	space := s[len(trimmed):]
	if trimmed != "" && !strings.Contains(space, "\n") {
		return "\n" + space
	}
	return space
}

func remove(o *hujson.Object, name string) {
	if i := find(o, name); i >= 0 {
		o.Members = slices.Delete(o.Members, i, i+1)
	}
}
