package config

import (
	"fmt"
	"strings"
)

// References returns the variables that containers are given, each with its reference.
func (s Secret) References() map[string]string {
	mappings := s.Mappings
	if len(mappings) == 0 && s.Name != "" {
		mappings = map[string]string{variableOf(s.Name): s.Provider + "/" + s.Name}
	}
	scheme, options := "dso://", ""
	if s.Inject.Type == "file" {
		scheme, options = "dsofile://", s.Inject.options()
	}
	refs := map[string]string{}
	for variable, ref := range mappings {
		path, field, hasField := strings.Cut(strings.TrimPrefix(ref, "dso://"), "#")
		refs[variable] = scheme + path + options
		if hasField {
			refs[variable] += "#" + field
		}
	}
	return refs
}

// variableOf names the variable of a secret without mappings: APP_DB for app/db.
func variableOf(name string) string {
	v := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
	if v[0] >= '0' && v[0] <= '9' {
		v = "_" + v
	}
	return v
}

// options are those of a file's reference.
func (i Inject) options() string {
	var set []string
	if i.UID >= 0 {
		set = append(set, fmt.Sprintf("uid=%d", i.UID))
	}
	if i.GID >= 0 {
		set = append(set, fmt.Sprintf("gid=%d", i.GID))
	}
	if i.Path != "" {
		set = append(set, "path="+i.Path)
	}
	if len(set) == 0 {
		return ""
	}
	return "?" + strings.Join(set, "&")
}
