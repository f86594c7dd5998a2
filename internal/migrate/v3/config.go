package v3

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Config translates a dso.yaml of version 3.5 to one of this version, with its comments
// and its order, and says what it changed. What has no translation it leaves as it is: the
// loader of this version says what is wrong with it.
func Config(text []byte) (translated []byte, changes []string, err error) {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil { // its error may quote
		return nil, nil, fmt.Errorf("not YAML")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, nil, fmt.Errorf("not a configuration")
	}
	t := &translation{root: doc.Content[0], renamed: map[string]string{}, kinds: map[string]string{}}
	t.topProvider()
	t.providers()
	t.agent()
	t.secrets()
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(&doc); err != nil {
		return nil, nil, fmt.Errorf("write the configuration anew: %w", err)
	}
	return out.Bytes(), t.changes, e.Close()
}

type translation struct {
	root    *yaml.Node
	changes []string
	renamed map[string]string // providers, by their old name
	kinds   map[string]string // types of the providers, by their new name
}

func (t *translation) changed(n *yaml.Node, format string, args ...any) {
	t.changes = append(t.changes, fmt.Sprintf("line %d: ", n.Line)+fmt.Sprintf(format, args...))
}

// topProvider moves the one provider that old files have at the top.
func (t *translation) topProvider() {
	comment := ""
	if i := index(t.root, "provider"); i >= 0 {
		comment = t.root.Content[i].HeadComment
	}
	kind := cut(t.root, "provider")
	config := cut(t.root, "config")
	if kind == nil || kind.Value == "" {
		return
	}
	t.changed(kind, "the provider %s moves below providers", kind.Value)
	p := mapping()
	put(p, "type", text(kind.Value))
	if config != nil {
		put(p, "config", config)
	}
	all, key := mapping(), text("providers")
	put(all, kind.Value, p)
	key.HeadComment = comment
	t.root.Content = slices.Insert(t.root.Content, 0, key, all)
}

// local is a name that belongs to the vault of this version.
const local = "local"

func (t *translation) providers() {
	all := get(t.root, "providers")
	for i := 0; all != nil && i+1 < len(all.Content); i += 2 {
		name, p := all.Content[i], all.Content[i+1]
		kind := valueOf(get(p, "type"))
		if name.Value == local && kind != local {
			t.renamed[local] = kind + "s"
			t.changed(name, "the provider local is called %ss: local is the vault's name", kind)
			name.Value = t.renamed[local]
		}
		t.kinds[name.Value] = kind
		switch kind {
		case "vault":
			t.vault(p)
		case "azure":
			t.rename(get(p, "config"), "vault_url", "vault")
			t.defaultLogin(p)
		case "aws":
			t.defaultLogin(p)
		case "file":
			t.rename(get(p, "config"), "path", "dir")
		}
	}
}

// vault moves the token from where the store is to how one logs in there.
func (t *translation) vault(p *yaml.Node) {
	token := cut(get(p, "config"), "token")
	if token == nil {
		return
	}
	t.changed(token, "the token moves to auth.params")
	params, auth := mapping(), mapping()
	put(params, "token", token)
	put(auth, "method", text("token"))
	put(auth, "params", params)
	cut(p, "auth")
	put(p, "auth", auth)
}

// defaultLogin leaves out a method that is what happens without one: the environment and
// the role of the machine are looked for.
func (t *translation) defaultLogin(p *yaml.Node) {
	auth := get(p, "auth")
	if m := valueOf(get(auth, "method")); m == "iam_role" || m == "env" {
		t.changed(auth, "auth.method %s is the default and is left out", m)
		cut(p, "auth")
	}
}

func (t *translation) rename(n *yaml.Node, from, to string) {
	for i := 0; n != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == from {
			t.changed(n.Content[i], "%s is called %s", from, to)
			n.Content[i].Value = to
		}
	}
}

// noEffect are settings of the agent that have no counterpart: what they were for happens
// by itself.
var noEffect = []string{"cache", "refresh_interval", "auto_sync", "restart_strategy", "rotation"}

func (t *translation) agent() {
	a := get(t.root, "agent")
	for _, key := range noEffect {
		if n := cut(a, key); n != nil {
			t.changed(n, "agent.%s is left out: there is nothing to set any more", key)
		}
	}
	watch := get(a, "watch")
	if mode := get(watch, "mode"); mode != nil && mode.Value != "polling" {
		t.changed(mode, "agent.watch.mode is polling: what a store reports by itself is noticed anyway")
		mode.Value = "polling"
	}
	hook := get(watch, "webhook")
	if hook == nil {
		return
	}
	token := get(hook, "auth_token")
	cut(watch, "webhook")
	if valueOf(get(hook, "enabled")) != "true" || token == nil {
		t.changed(hook, "agent.watch.webhook was off and is left out")
		return
	}
	t.changed(hook, "reports to the webhook are signed with the token now, no longer sent with it: see docs/reference/webhook.md")
	signed := mapping()
	put(signed, "secret", token)
	put(watch, "webhook", signed)
}

// secrets brings each entry into the form that this version has, with what the defaults
// said, which are no more.
func (t *translation) secrets() {
	defaults := cut(t.root, "defaults")
	if defaults != nil {
		t.changed(defaults, "defaults move into each secret")
	}
	list := get(t.root, "secrets")
	if list == nil || list.Kind != yaml.SequenceNode {
		return
	}
	for _, entry := range list.Content {
		t.inject(entry, get(defaults, "inject"))
		t.rotation(entry, get(defaults, "rotation"))
		provider := t.provider(entry)
		t.mappings(entry, provider)
	}
}

func (t *translation) inject(entry, defaults *yaml.Node) {
	own := get(entry, "inject")
	switch {
	case own != nil && own.Kind == yaml.ScalarNode:
		as := mapping()
		put(as, "type", text(own.Value))
		replace(entry, "inject", as)
	case own == nil && defaults != nil:
		put(entry, "inject", copyOf(defaults))
	case own != nil:
		addMissing(own, defaults)
	}
}

func (t *translation) rotation(entry, defaults *yaml.Node) {
	own := get(entry, "rotation")
	switch {
	case own != nil && own.Kind == yaml.ScalarNode:
		as := mapping()
		put(as, "enabled", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: own.Value})
		replace(entry, "rotation", as)
		own = as
	case own == nil:
		own = mapping()
		put(entry, "rotation", own)
	}
	if reload := cut(entry, "reload_strategy"); reload != nil {
		if kind := get(reload, "type"); kind != nil && get(own, "strategy") == nil {
			put(own, "strategy", kind)
		}
		t.changed(reload, "reload_strategy is rotation.strategy")
	}
	addMissing(own, defaults)
	if len(own.Content) == 0 {
		cut(entry, "rotation")
	}
	t.fixed(entry, own)
}

// fixed restarts what cannot be told of a new file: one anywhere but below secret.FilesDir is a
// mount of its own.
func (t *translation) fixed(entry, rotation *yaml.Node) {
	path, strategy := valueOf(get(get(entry, "inject"), "path")), get(rotation, "strategy")
	file := secret.Ref{Kind: secret.KindFile, File: secret.FileOptions{Path: path}}
	if valueOf(strategy) != "signal" || !file.Fixed() {
		return
	}
	t.changed(strategy, "strategy signal is restart: %s stays as it was when the container started; below %s it would not", path, secret.FilesDir)
	strategy.Value = "restart"
	cut(rotation, "signal")
}

// provider names the entry's provider, which was the only one there is when it was not
// said.
func (t *translation) provider(entry *yaml.Node) string {
	n := get(entry, "provider")
	if n == nil {
		names := slices.Sorted(maps.Keys(t.kinds))
		if len(names) != 1 {
			return ""
		}
		n = text(names[0])
		put(entry, "provider", n)
	}
	if to, ok := t.renamed[n.Value]; ok {
		n.Value = to
	}
	return n.Value
}

// variable is a name that a variable of a container can have.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// mappings turns what was FIELD: VARIABLE around.
func (t *translation) mappings(entry *yaml.Node, provider string) {
	old := get(entry, "mappings")
	name := valueOf(get(entry, "name"))
	if old == nil || old.Kind != yaml.MappingNode || provider == "" || name == "" {
		return
	}
	turned := mapping()
	turned.HeadComment, turned.LineComment, turned.FootComment = old.HeadComment, old.LineComment, old.FootComment
	for i := 0; i+1 < len(old.Content); i += 2 {
		field, to := old.Content[i], old.Content[i+1]
		if !variable.MatchString(to.Value) {
			return // not of this form
		}
		ref := provider + "/" + name
		// What is no JSON object had one field, called value.
		if t.kinds[provider] != "azure" || field.Value != "value" {
			ref += "#" + field.Value
		}
		key, value := text(to.Value), text(ref)
		key.HeadComment, value.LineComment = field.HeadComment, to.LineComment
		turned.Content = append(turned.Content, key, value)
	}
	t.changed(old, "mappings of %s are turned around: the variable comes first", name)
	replace(entry, "mappings", turned)
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

func valueOf(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// index returns where a key of a mapping stands, or -1.
func index(n *yaml.Node, key string) int {
	if n == nil || n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i
		}
	}
	return -1
}

func get(n *yaml.Node, key string) *yaml.Node {
	i := index(n, key)
	if i < 0 {
		return nil
	}
	if v := n.Content[i+1]; v.Kind != yaml.AliasNode {
		return v
	}
	return n.Content[i+1].Alias
}

// cut takes a member out of a mapping and returns its value.
func cut(n *yaml.Node, key string) *yaml.Node {
	i := index(n, key)
	if i < 0 {
		return nil
	}
	v := n.Content[i+1]
	n.Content = slices.Delete(n.Content, i, i+2)
	return v
}

func put(n *yaml.Node, key string, value *yaml.Node) {
	n.Content = append(n.Content, text(key), value)
}

func replace(n *yaml.Node, key string, value *yaml.Node) { n.Content[index(n, key)+1] = value }

func copyOf(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	for _, below := range n.Content {
		c.Content = append(c.Content, copyOf(below))
	}
	return &c
}

// addMissing gives a mapping the members of another that it does not have.
func addMissing(n, from *yaml.Node) {
	if from == nil || from.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(from.Content); i += 2 {
		if key := from.Content[i].Value; get(n, key) == nil {
			put(n, key, copyOf(from.Content[i+1]))
		}
	}
}
