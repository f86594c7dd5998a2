package config

import (
	"bytes"
	"encoding/json"
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

// Show returns what holds, defaults included, as YAML that would load again but for
// its credentials: those of files are shown as their files, the others not at all.
// A scalar with ${…} is shown as it stands in the file.
func (c *Config) Show() ([]byte, error) { return yaml.Dump(c.node(reflect.ValueOf(*c), "")) }

// ShowJSON is Show in JSON.
func (c *Config) ShowJSON() ([]byte, error) {
	var v any
	if err := c.node(reflect.ValueOf(*c), "").Decode(&v); err != nil {
		return nil, fmt.Errorf("show configuration: %w", err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// node returns nil for what is not set.
func (c *Config) node(v reflect.Value, path string) *yaml.Node {
	if raw, ok := c.raw[path]; ok {
		return text(raw)
	}
	switch {
	case v.Type() == typeDuration:
		return textOrNil(time.Duration(v.Int()), v.IsZero())
	case v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return c.node(v.Elem(), path)
	case v.Kind() == reflect.Struct:
		return c.structNode(v, path)
	case v.Kind() == reflect.Map:
		return c.mapNode(v, path)
	case v.Kind() == reflect.Slice:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for i := range v.Len() {
			n.Content = append(n.Content, c.node(v.Index(i), fmt.Sprintf("%s[%d]", path, i)))
		}
		if v.Len() == 0 {
			return nil
		}
		return n
	case v.Kind() == reflect.String && strings.HasSuffix(path, "]"):
		return text(v.String()) // an empty item is one
	case v.Kind() == reflect.String:
		return textOrNil(v.String(), v.IsZero())
	case v.Kind() == reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}
	case v.Kind() == reflect.Int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v.Int(), 10)}
	}
	return nil
}

func textOrNil(x any, zero bool) *yaml.Node {
	if zero {
		return nil
	}
	return text(fmt.Sprint(x))
}

func (c *Config) structNode(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range fieldsOf(v.Type()) {
		if f.pending() {
			continue
		}
		key, at := f.key, join(path, f.key)
		var child *yaml.Node
		if f.typ == typeCredential {
			key, child = showCredential(v.Field(f.index).Interface().(Credential), key)
		} else if f.tag.Get("unset") == "" || f.tag.Get("unset") != fmt.Sprint(v.Field(f.index)) {
			child = c.node(v.Field(f.index), at)
		}
		if address, query, ok := strings.Cut(valueOf(child), "?"); ok && query != "" && f.tag.Get("query") != "" {
			child = text(address + "?" + secret.Redacted) // it may be a credential all the same
		}
		if child != nil && (child.Kind != yaml.MappingNode || len(child.Content) > 0) {
			n.Content = append(n.Content, text(key), child)
		}
	}
	return n
}

func valueOf(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	return n.Value
}

func (c *Config) mapNode(v reflect.Value, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	byKey := map[string]reflect.Value{}
	for _, k := range v.MapKeys() {
		byKey[k.String()] = v.MapIndex(k)
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		child := (*yaml.Node)(nil)
		if cred, ok := byKey[key].Interface().(Credential); ok {
			_, child = showCredential(cred, key)
		} else {
			child = c.node(byKey[key], join(path, key))
		}
		if child != nil {
			n.Content = append(n.Content, text(key), child)
		}
	}
	return n
}

func showCredential(cred Credential, key string) (string, *yaml.Node) {
	switch {
	case !cred.IsSet():
		return key, nil
	case cred.path != "":
		return key + suffixFile, text(cred.path)
	}
	return key, text(secret.Redacted)
}
