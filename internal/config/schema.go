package config

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// object is a JSON object; encoding/json sorts its keys.
type object = map[string]any

// Schema returns the JSON schema (draft 2020-12) of the format. It is made of the
// structs that the decoder fills.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[Config](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "dso.yaml"
	s["description"] = "Configuration of the Docker Secret Operator. Generated; do not edit."
	out, err := json.MarshalIndent(s, "", "  ")
	return append(out, '\n'), err
}

func schemaOf(t reflect.Type, tag reflect.StructTag) object {
	switch {
	case t == typeProvider:
		return providerSchema()
	case t == typeCredential:
		return object{"type": "string", "minLength": 1}
	case t == typeDuration:
		return bounded(object{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|\$\{`}, tag)
	case t.Kind() == reflect.Struct:
		return structSchema(t)
	case t.Kind() == reflect.Map:
		return object{"type": []string{"object", "null"}, "additionalProperties": schemaOf(t.Elem(), "")}
	case t.Kind() == reflect.Slice:
		return object{"type": []string{"array", "null"}, "items": schemaOf(t.Elem(), "")}
	}
	return scalarSchema(t, tag)
}

// expanded is what a scalar of any type may be: a text with ${…}.
var expanded = object{"type": "string", "pattern": `\$\{`}

func scalarSchema(t reflect.Type, tag reflect.StructTag) object {
	s := object{}
	switch t.Kind() {
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.Int:
		s["type"] = "integer"
		for key, bound := range map[string]string{"minimum": tag.Get("min"), "maximum": tag.Get("max")} {
			if n, err := strconv.Atoi(bound); err == nil {
				s[key] = n
			}
		}
	case reflect.String:
		s["type"] = "string"
		if tag.Get("abs") != "" {
			s["pattern"] = `^/|\$\{`
		}
		if enum := tag.Get("enum"); enum != "" {
			s = object{"enum": enumSchema(enum, tag.Get("loose") != "")}
		}
	}
	if _, plain := s["enum"]; t.Kind() != reflect.String || plain {
		return object{"anyOf": []any{s, expanded}}
	}
	return s
}

func enumSchema(enum string, loose bool) []any {
	var out []any
	for word := range strings.SplitSeq(enum, ",") {
		out = append(out, word)
		if n, err := strconv.Atoi(word); err == nil && loose {
			out = append(out, n)
		}
	}
	return out
}

// bounded says in words what a schema cannot: the bounds of a duration.
func bounded(s object, tag reflect.StructTag) object {
	if tag.Get("min") != "" {
		s["$comment"] = "between " + tag.Get("min") + " and " + tag.Get("max")
	}
	return s
}

func structSchema(t reflect.Type) object {
	properties, all := object{}, []any{}
	var required []string
	for _, f := range fieldsOf(t) {
		s := schemaOf(f.typ, f.tag)
		if f.pending() {
			s = object{"not": object{}, "description": "Part of the format, but not acted on by this version, and so refused."}
		}
		describe(s, f.tag)
		properties[f.key] = s
		switch {
		case f.typ == typeCredential:
			file := object{"type": "string", "pattern": `^/|\$\{`, "description": "File that holds " + f.key + "; others must not be able to read it."}
			cred := object{"type": "string", "description": "Name of a systemd credential that holds " + f.key + "."}
			properties[f.key+suffixFile], properties[f.key+suffixCredential] = file, cred
			if f.required() {
				all = append(all, object{"oneOf": []any{needs(f.key), needs(f.key + suffixFile), needs(f.key + suffixCredential)}})
			}
		case f.required():
			required = append(required, f.key)
		}
	}
	s := object{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["type"], s["required"] = "object", required
	}
	if len(all) > 0 {
		s["type"], s["allOf"] = "object", all
	}
	return s
}

func needs(key string) object { return object{"required": []string{key}} }

func describe(s object, tag reflect.StructTag) {
	if doc := tag.Get("doc"); doc != "" {
		s["description"] = doc
	}
	if def := tag.Get("default"); def != "" && s["not"] == nil {
		s["default"] = defaultOf(def)
	}
}

func defaultOf(text string) any {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	if text == "true" || text == "false" {
		return text == "true"
	}
	return text
}

// providerSchema says for each type what lies below config and auth.
func providerSchema() object {
	s := structSchema(typeProvider)
	properties := s["properties"].(object)
	properties["type"] = object{"description": "What kind of store it is.", "anyOf": []any{object{"enum": Types()}, expanded}}
	properties["config"] = object{"description": "Where the store is, by type."}
	properties["auth"] = object{"description": "How DSO proves who it is, by type."}
	var byType []any
	for _, name := range Types() {
		k := kinds[name]
		then := object{"properties": object{"config": partSchema(k.config), "auth": authSchema(k)}}
		then["properties"].(object)["config"].(object)["description"] = k.doc
		if r, ok := then["properties"].(object)["config"].(object)["required"]; ok && r != nil {
			then["required"] = []string{"config"}
		}
		if !k.region {
			then["properties"].(object)["region"] = object{"not": object{}}
		}
		byType = append(byType, object{"if": isConst("type", name), "then": then})
	}
	s["allOf"] = byType
	return s
}

func isConst(key, value string) object {
	return object{"properties": object{key: object{"const": value}}, "required": []string{key}}
}

func partSchema(construct func() any) object {
	if construct == nil {
		return object{"type": []string{"object", "null"}, "maxProperties": 0}
	}
	return structSchema(reflect.TypeOf(construct()).Elem())
}

func authSchema(k kind) object {
	if k.methods == nil {
		return partSchema(nil)
	}
	methods := slices.Sorted(maps.Keys(k.methods))
	s := structSchema(reflect.TypeFor[Auth]())
	s["properties"] = object{
		"method": object{"anyOf": []any{object{"enum": methods}, expanded}, "default": k.method},
		"params": object{},
	}
	var byMethod []any
	for _, m := range methods {
		when := isConst("method", m)
		if m == k.method {
			delete(when, "required")
		}
		byMethod = append(byMethod, object{"if": when, "then": object{"properties": object{"params": partSchema(k.methods[m])}}})
	}
	s["allOf"] = byMethod
	return s
}
