package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// maxNodes bounds the work on one file; aliases can make a short one long.
const maxNodes = 20000

// position is where something stands in the file.
type position struct{ line, column int }

// decoder decodes one file and collects what is wrong with it.
type decoder struct {
	file     string
	env      func(string) (string, bool)
	problems []Problem
	warnings []Problem
	at       map[string]position // of keys, by path
	raw      map[string]string   // scalars with ${…}, by path
	literal  map[string]position // credentials that stand in the file itself
	visited  int
}

var (
	typeDuration   = reflect.TypeFor[time.Duration]()
	typeCredential = reflect.TypeFor[Credential]()
	typeProvider   = reflect.TypeFor[Provider]()
)

func (d *decoder) problem(pos position, path, hint, format string, args ...any) {
	d.problems = append(d.problems, d.found(pos, path, hint, format, args...))
}

func (d *decoder) found(pos position, path, hint, format string, args ...any) Problem {
	return Problem{File: d.file, Line: pos.line, Column: pos.column, Path: path, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// bad reports whether something is wrong with what a key has.
func (d *decoder) bad(path string) bool {
	return slices.ContainsFunc(d.problems, func(p Problem) bool { return p.Path == path })
}

func where(n *yaml.Node) position { return position{n.Line, n.Column} }

// name is how a problem calls what lies at a path.
func name(path string) string {
	if path == "" {
		return "the file"
	}
	return "`" + path + "`"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// field is one key of a struct.
type field struct {
	key   string
	index int
	typ   reflect.Type
	tag   reflect.StructTag
}

func (f field) pending() bool  { return f.tag.Get("pending") != "" }
func (f field) required() bool { return f.tag.Get("required") != "" }

func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := range t.NumField() {
		sf := t.Field(i)
		if key := sf.Tag.Get("yaml"); key != "" && key != "-" {
			fs = append(fs, field{key, i, sf.Type, sf.Tag})
		}
	}
	return fs
}

// keysOf returns the keys that a struct may have in the file.
func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.key)
		if f.typ == typeCredential {
			keys = append(keys, f.key+suffixFile, f.key+suffixCredential)
		}
	}
	return keys
}

// follow returns what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode && n.Alias != nil {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// pairs calls each for every key of a mapping, once. n may be nil or null: a key
// without anything below it.
func (d *decoder) pairs(n *yaml.Node, path string, each func(key string, k, v *yaml.Node)) {
	if n == nil || isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problem(where(n), path, "of names to values", "%s must be a mapping", name(path))
		return
	}
	seen := map[string]position{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], follow(n.Content[i+1])
		if d.visited++; d.visited > maxNodes {
			if d.visited == maxNodes+1 {
				d.problem(where(k), path, "", "the file is too large")
			}
			return
		}
		switch first, twice := seen[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			d.problem(where(k), path, "", "a key of %s is not a word", name(path))
		case k.ShortTag() == "!!merge":
			d.problem(where(k), path, "write the keys out", "`<<` merges nothing here")
		case twice:
			d.problem(where(k), join(path, k.Value), fmt.Sprintf("the first time on line %d", first.line), "%s is set twice", name(join(path, k.Value)))
		default:
			seen[k.Value] = where(k)
			d.at[join(path, k.Value)] = where(k)
			each(k.Value, k, v)
		}
	}
}

// special decodes the key of a struct that depends on another one.
type special map[string]func(n *yaml.Node, at position)

// structure decodes a mapping into a struct. pos is where to say that something is
// missing when there is no mapping.
func (d *decoder) structure(n *yaml.Node, pos position, v reflect.Value, path string, sp special) {
	fields := fieldsOf(v.Type())
	byKey := map[string]field{}
	for _, f := range fields {
		byKey[f.key] = f
		if f.typ == typeCredential {
			byKey[f.key+suffixFile], byKey[f.key+suffixCredential] = f, f
		}
	}
	switch {
	case n == nil || isNull(n):
	case n.Kind != yaml.MappingNode:
		d.problem(where(n), path, "with the keys "+list(keysOf(v.Type())), "%s must be a mapping", name(path))
		return
	case len(n.Content) > 0:
		pos = where(n.Content[0])
	}
	given := map[string]bool{}
	d.pairs(n, path, func(key string, k, val *yaml.Node) {
		f, ok := byKey[key]
		if !ok {
			d.unknown(k, path, v.Type())
			return
		}
		given[f.key] = true
		at := join(path, key)
		if f.pending() {
			d.problem(where(k), at, "remove it: it would have no effect", "%s is not acted on by this version", name(at))
		}
		switch decode := sp[key]; {
		case decode != nil:
			decode(val, where(k))
		case f.typ == typeCredential:
			d.credential(val, v.Field(f.index), at, f.key, strings.TrimPrefix(key, f.key))
		default:
			d.value(val, v.Field(f.index), at, f.tag)
		}
	})
	for _, f := range fields {
		if given[f.key] {
			continue
		}
		d.absent(f, v.Field(f.index), pos, path, sp)
	}
}

// absent gives a key that is not in the file its default.
func (d *decoder) absent(f field, v reflect.Value, pos position, path string, sp special) {
	at := join(path, f.key)
	switch decode := sp[f.key]; {
	case f.pending():
	case f.required():
		hint := ""
		switch {
		case f.typ == typeCredential:
			hint = fmt.Sprintf("give `%[1]s`, `%[1]s_file` or `%[1]s_credential`", f.key)
		case f.tag.Get("kinds") != "":
			hint = "there are " + list(Types())
		}
		d.problem(pos, at, hint, "%s is missing", name(at))
	case decode != nil:
		decode(nil, pos)
	case f.tag.Get("default") != "":
		if err := parse(f.tag.Get("default"), v, f.tag); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", at, err))
		}
	case f.tag.Get("unset") != "":
		n, err := strconv.Atoi(f.tag.Get("unset"))
		if err != nil {
			panic(fmt.Sprintf("config: unset of %s: %v", at, err))
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Struct && f.typ != typeCredential:
		d.structure(nil, pos, v, at, nil)
	}
}

// value decodes what a key has.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	switch {
	case v.Type() == typeProvider:
		d.provider(n, v, path)
	case v.Type() == typeCredential:
		d.credential(n, v, path, path, "")
	case v.Kind() == reflect.Struct:
		d.structure(n, d.at[path], v, path, nil)
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		d.pairs(n, path, func(key string, _, val *yaml.Node) {
			e := reflect.New(v.Type().Elem()).Elem()
			d.value(val, e, join(path, key), "")
			v.SetMapIndex(reflect.ValueOf(key), e)
		})
	case v.Kind() == reflect.Slice:
		d.sequence(n, v, path)
	case v.Kind() == reflect.Interface: // pending: nothing is known of it yet
	default:
		d.scalar(n, v, path, tag)
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.problem(where(n), path, "each item after `- `", "%s must be a list", name(path))
		return
	}
	for i, item := range n.Content {
		if d.visited++; d.visited > maxNodes {
			return
		}
		e := reflect.New(v.Type().Elem()).Elem()
		at := fmt.Sprintf("%s[%d]", path, i)
		d.at[at] = where(item)
		d.value(follow(item), e, at, "")
		v.Set(reflect.Append(v, e))
	}
}

// text returns the text of a scalar with its variables expanded.
func (d *decoder) text(n *yaml.Node, path string) (text string, literal, ok bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		d.problem(where(n), path, "", "%s must be one value", name(path))
		return "", false, false
	case isNull(n):
		d.problem(where(n), path, "", "%s has no value", name(path))
		return "", false, false
	case n.Style&yaml.TaggedStyle != 0:
		d.problem(where(n), path, "remove the tag", "%s must not have a tag", name(path))
		return "", false, false
	}
	text, literal, err := expand(n.Value, d.env)
	if err != nil {
		hint := "write `$${` for the characters themselves"
		var unset *unsetError
		if errors.As(err, &unset) {
			hint = fmt.Sprintf("set it for each program that reads the file, such as the agent and a shell, or give a default: `${%s:-…}`", unset.name)
		}
		d.problem(where(n), path, hint, "%s: %v", name(path), err)
		return "", false, false
	}
	if text != n.Value {
		d.raw[path] = n.Value
	}
	return text, literal, true
}

// scalar decodes one value. A problem shows what stands in the file, never what a
// variable holds.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag) {
	text, _, ok := d.text(n, path)
	if !ok {
		return
	}
	plain := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	isText := v.Kind() == reflect.String || v.Type() == typeDuration
	switch {
	case v.Kind() == reflect.String && plain && n.ShortTag() != "!!str" && tag.Get("loose") == "" && tag.Get("enum") == "":
		d.problem(where(n), path, "put it in quotes", "%s must be text", name(path))
		return
	case !isText && !plain && !strings.Contains(n.Value, "${"):
		d.problem(where(n), path, "remove the quotes", "%s must not be text", name(path))
		return
	}
	if err := parse(text, v, tag); err != nil {
		var bad *valueError
		hint := ""
		if errors.As(err, &bad) {
			hint = bad.hint
			if enum := tag.Get("enum"); enum != "" {
				if word, ok := nearest(n.Value, strings.Split(enum, ",")); ok {
					hint = fmt.Sprintf("did you mean `%s`?", word)
				}
			}
		}
		d.problem(where(n), path, hint, "%s is `%s` and %v", name(path), clip(n.Value), err)
	}
}

// valueError says what a value must be.
type valueError struct{ text, hint string }

func (e *valueError) Error() string { return e.text }

// parse sets v from text within the bounds of the tag.
func parse(text string, v reflect.Value, tag reflect.StructTag) error {
	if enum := tag.Get("enum"); enum != "" && !slices.Contains(strings.Split(enum, ","), text) {
		return &valueError{text: "must be " + either(strings.Split(enum, ","))}
	}
	switch {
	case v.Type() == typeDuration:
		return parseDuration(text, v, tag)
	case v.Kind() == reflect.String:
		if tag.Get("abs") != "" && !strings.HasPrefix(text, "/") {
			return &valueError{text: "must be an absolute path"}
		}
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return &valueError{text: "must be true or false"}
		}
		v.SetBool(text == "true")
	case v.Kind() == reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return &valueError{text: "must be a whole number"}
		}
		return inRange(i, v, tag, strconv.Atoi)
	default:
		panic("config: no way to decode a " + v.Type().String())
	}
	return nil
}

func parseDuration(text string, v reflect.Value, tag reflect.StructTag) error {
	dur, err := time.ParseDuration(text)
	if err != nil {
		hint := ""
		if _, err := strconv.Atoi(text); err == nil {
			hint = fmt.Sprintf("such as `%ss`", text)
		}
		return &valueError{"must be a duration with a unit (ms, s, m, h)", hint}
	}
	return inRange(dur, v, tag, time.ParseDuration)
}

// inRange sets v to x when that lies within the bounds of the tag.
func inRange[T int | time.Duration](x T, v reflect.Value, tag reflect.StructTag, read func(string) (T, error)) error {
	least, lerr := read(tag.Get("min"))
	most, merr := read(tag.Get("max"))
	if lerr == nil && merr == nil && (x < least || x > most) {
		return &valueError{text: fmt.Sprintf("must be between %s and %s", tag.Get("min"), tag.Get("max"))}
	}
	v.SetInt(int64(x))
	return nil
}

// credential decodes one of the three ways to give a credential.
func (d *decoder) credential(n *yaml.Node, v reflect.Value, path, key, suffix string) {
	if first := v.Interface().(Credential); first.IsSet() {
		d.problem(d.at[path], path, "give one of them", "%s and `%s` say the same", name(path), first.key)
		return
	}
	text, literal, ok := d.text(n, path)
	v.Set(reflect.ValueOf(Credential{key: key + suffix})) // also a bad one was given
	if !ok {
		return
	}
	c := Credential{value: secret.NewValue([]byte(text)), key: key + suffix}
	if suffix != "" {
		file, err := credentialPath(suffix, text, d.env)
		if err != nil {
			d.problem(where(n), path, "", "%s %v", name(path), err)
			return
		}
		if c.value, err = readCredential(file); err != nil {
			d.problem(where(n), path, "", "%s: %v", name(path), err)
			return
		}
		c.path = file
	}
	if c.value.Len() == 0 {
		d.problem(where(n), path, "", "%s is empty", name(path))
	}
	if suffix == "" && literal {
		d.literal[path] = where(n)
	}
	v.Set(reflect.ValueOf(c))
}

// provider decodes one provider: what lies below config and auth depends on its
// type.
func (d *decoder) provider(n *yaml.Node, v reflect.Value, path string) {
	p := v.Addr().Interface().(*Provider)
	k, known := d.kindOf(n, path)
	skip := func(*yaml.Node, position) {}
	sp := special{"config": skip, "auth": skip}
	if known {
		sp["config"] = func(n *yaml.Node, at position) { p.Config = d.part(k.config, n, at, join(path, "config"), "this type") }
		sp["auth"] = func(n *yaml.Node, at position) { d.auth(n, at, &p.Auth, k, join(path, "auth")) }
	}
	d.structure(n, d.at[path], v, path, sp)
}

// kindOf looks for the type of a provider before anything else of it is decoded.
func (d *decoder) kindOf(n *yaml.Node, path string) (kind, bool) {
	if n.Kind != yaml.MappingNode {
		return kind{}, false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "type" {
			continue
		}
		t := follow(n.Content[i+1])
		text, _, err := expand(t.Value, d.env)
		if k, ok := kinds[text]; ok && err == nil {
			return k, true
		}
		if t.Kind == yaml.ScalarNode && !isNull(t) && err == nil {
			hint := "there are " + list(Types())
			word, meant := nearest(t.Value, Types())
			if meant {
				hint = fmt.Sprintf("did you mean `%s`?", word)
			}
			d.problem(where(t), join(path, "type"), hint, "unknown provider type `%s`", clip(t.Value))
			return kinds[word], meant // so that what else is wrong is told too
		}
		return kind{}, false
	}
	k, meant := kinds[strings.TrimPrefix(path, "providers.")] // one without a type is named like it, often
	return k, meant
}

// part decodes into the struct that make returns.
func (d *decoder) part(construct func() any, n *yaml.Node, at position, path, what string) any {
	if construct == nil {
		if n != nil && !isNull(n) && len(n.Content) > 0 {
			d.problem(at, path, "", "%s must be empty: %s has none", name(path), what)
		}
		return nil
	}
	x := construct()
	d.structure(n, at, reflect.ValueOf(x).Elem(), path, nil)
	return x
}

func (d *decoder) auth(n *yaml.Node, at position, a *Auth, k kind, path string) {
	if k.methods == nil {
		d.part(nil, n, at, path, "this type")
		return
	}
	a.Method = k.method
	known := slices.Sorted(maps.Keys(k.methods))
	meant := ""
	sp := special{"method": func(n *yaml.Node, _ position) {
		if n != nil {
			meant, _ = nearest(n.Value, known)
			tag := reflect.StructTag(fmt.Sprintf("enum:%q", strings.Join(known, ",")))
			d.scalar(n, reflect.ValueOf(&a.Method).Elem(), join(path, "method"), tag)
		}
	}}
	// The params are decoded last: the method may stand below them.
	var params *yaml.Node
	before := len(d.problems)
	paramsAt := at
	sp["params"] = func(n *yaml.Node, pos position) { params, paramsAt = n, pos }
	d.structure(n, at, reflect.ValueOf(a).Elem(), path, sp)
	if slices.ContainsFunc(d.problems[before:], func(p Problem) bool { return p.Path == join(path, "method") }) {
		if meant == "" {
			return
		}
		a.Method = meant // so that what else is wrong is told too
	}
	a.Params = d.part(k.methods[a.Method], params, paramsAt, join(path, "params"), "the method `"+a.Method+"`")
}

// unknown says that a key means nothing, and what may have been meant.
func (d *decoder) unknown(k *yaml.Node, path string, t reflect.Type) {
	keys := keysOf(t)
	hint := ""
	if word, ok := nearest(k.Value, keys); ok {
		hint = fmt.Sprintf("did you mean `%s`?", word)
	} else if at, _ := elsewhere(t, exactly(k.Value)); at != "" {
		hint = fmt.Sprintf("it belongs to `%s`", join(path, at))
	} else if at := ofProvider(k.Value, path); at != "" {
		hint = fmt.Sprintf("it belongs to `%s`", at)
	} else if at, word := elsewhere(t, func(keys []string) string { word, _ := nearest(k.Value, keys); return word }); word != "" {
		hint = fmt.Sprintf("did you mean `%s`?", join(path, join(at, word)))
	} else if len(keys) > 0 {
		hint = "there are " + list(keys)
		if at, _ := elsewhere(reflect.TypeFor[Config](), exactly(k.Value)); at != "" {
			hint += fmt.Sprintf("; `%s` has one of that name", at)
		}
	}
	d.problem(where(k), join(path, k.Value), hint, "unknown key `%s`", clip(k.Value))
}

// ofProvider returns the section of a provider that a key belongs to which stands in another one.
func ofProvider(key, path string) string {
	parts := strings.SplitN(path, ".", 3)
	if len(parts) < 3 || parts[0] != "providers" {
		return ""
	}
	own := join(parts[0], parts[1])
	if slices.Contains(keysOf(typeProvider), key) {
		return own
	}
	at, _ := elsewhere(typeProvider, exactly(key))
	if at == "" || at == parts[2] {
		return "" // of another type
	}
	return join(own, at)
}

func exactly(key string) func([]string) string {
	return func(keys []string) string {
		if slices.Contains(keys, key) {
			return key
		}
		return ""
	}
}

// elsewhere returns the first section below t one of whose keys is picked, and the key.
func elsewhere(t reflect.Type, pick func(keys []string) string) (at, key string) {
	if t == typeProvider {
		for _, name := range Types() {
			k := kinds[name]
			if k.config != nil {
				if key := pick(keysOf(reflect.TypeOf(k.config()).Elem())); key != "" {
					return "config", key
				}
			}
			for _, construct := range k.methods {
				if construct == nil {
					continue
				}
				if key := pick(keysOf(reflect.TypeOf(construct()).Elem())); key != "" {
					return "auth.params", key
				}
			}
		}
	}
	for _, f := range fieldsOf(t) {
		if f.typ.Kind() != reflect.Struct || f.typ == typeCredential {
			continue
		}
		if key := pick(keysOf(f.typ)); key != "" {
			return f.key, key
		}
		if at, key := elsewhere(f.typ, pick); key != "" {
			return f.key + "." + at, key
		}
	}
	return "", ""
}

// clip shortens what is quoted from a file.
func clip(s string) string {
	const limit = 60
	if r := []rune(s); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return s
}

func list(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

func either(words []string) string {
	if len(words) == 1 {
		return "`" + words[0] + "`"
	}
	return list(words[:len(words)-1]) + " or `" + words[len(words)-1] + "`"
}
