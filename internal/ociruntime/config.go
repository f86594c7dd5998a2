package ociruntime

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
)

// object is a JSON object of which only some members are understood.
type object map[string]json.RawMessage

func (o object) get(key string, into any) error {
	raw, ok := o[key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("member %q: %w", key, err)
	}
	return nil
}

func (o object) set(key string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("member %q: %w", key, err)
	}
	o[key] = raw
	return nil
}

// user is the process's user as the OCI specification has it.
type user struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// mount is one mount of the OCI specification.
type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type,omitempty"`
	Source      string   `json:"source,omitempty"`
	Options     []string `json:"options,omitempty"`
}

// give puts references into a process's environment, in the place of variables of
// the same name.
func give(process object, given []wire.Reference) error {
	var env []json.RawMessage
	if err := process.get("env", &env); err != nil {
		return err
	}
	env = slices.DeleteFunc(env, func(raw json.RawMessage) bool {
		var kv string
		if json.Unmarshal(raw, &kv) != nil {
			return false
		}
		variable, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(given, func(r wire.Reference) bool { return r.Variable == variable })
	})
	for _, r := range given {
		raw, err := json.Marshal(r.Variable + "=" + r.Ref)
		if err != nil {
			return err
		}
		env = append(env, raw)
	}
	return process.set("env", env)
}

// references returns the references in a process's environment, in order. given are
// those that were put there.
func references(process object, given []wire.Reference) ([]wire.Reference, error) {
	var env []string
	if err := process.get("env", &env); err != nil {
		return nil, err
	}
	var refs []wire.Reference
	for _, kv := range env {
		if name, value, _ := strings.Cut(kv, "="); secret.IsRef(value) {
			r := wire.Reference{Variable: name, Ref: value}
			r.Given = slices.Contains(given, wire.Reference{Variable: name, Ref: value, Given: true})
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// setEnv puts the values in place of the references.
func setEnv(process object, values map[string][]byte) error {
	var env []json.RawMessage
	if err := process.get("env", &env); err != nil || len(env) == 0 {
		return err
	}
	for i, raw := range env {
		var kv string
		if err := json.Unmarshal(raw, &kv); err != nil {
			return err
		}
		name, old, _ := strings.Cut(kv, "=")
		if !secret.IsRef(old) {
			continue
		}
		value, ok := values[name]
		if !ok {
			return fmt.Errorf("the agent's answer lacks variable %s", name)
		}
		var err error
		if env[i], err = json.Marshal(name + "=" + string(value)); err != nil {
			return err
		}
	}
	return process.set("env", env)
}

// rewriteBundle returns the configuration with the values and the mount of the
// files in it. bundle is the engine's, from where relative paths count.
func rewriteBundle(config object, bundle string, resp wire.DeliverResponse) ([]byte, error) {
	var process object
	if err := config.get("process", &process); err != nil {
		return nil, err
	}
	if err := setEnv(process, resp.Env); err != nil {
		return nil, err
	}
	if err := config.set("process", process); err != nil {
		return nil, err
	}
	if err := absoluteRoot(config, bundle); err != nil {
		return nil, err
	}
	if resp.FilesDir != "" {
		if err := addMount(config, wire.FilesTarget, resp.FilesDir); err != nil {
			return nil, err
		}
	}
	for _, target := range slices.Sorted(maps.Keys(resp.Mounts)) {
		if err := addMount(config, target, resp.Mounts[target]); err != nil {
			return nil, err
		}
	}
	return json.Marshal(config)
}

func absoluteRoot(config object, bundle string) error {
	var root object
	if err := config.get("root", &root); err != nil || root == nil {
		return err
	}
	var path string
	if err := root.get("path", &path); err != nil || path == "" || filepath.IsAbs(path) {
		return err
	}
	if err := root.set("path", filepath.Join(bundle, path)); err != nil {
		return err
	}
	return config.set("root", root)
}

// addMount shows a file or directory of the host. It sets every option itself: runc
// 1.1.5 drops nosuid, nodev and noexec from the engine's own read-only volume mounts.
func addMount(config object, target, source string) error {
	var mounts []json.RawMessage
	if err := config.get("mounts", &mounts); err != nil {
		return err
	}
	raw, err := json.Marshal(mount{
		Destination: target, Type: "bind", Source: source,
		Options: []string{"rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"},
	})
	if err != nil {
		return err
	}
	return config.set("mounts", append(mounts, raw))
}

// container describes the container of a bundle, as far as the bundle and the
// engine's own record of the container tell.
func container(config object, id string, rules target.Rules) (wire.DeliverRequest, error) {
	req := wire.DeliverRequest{ContainerID: id}
	var process object
	var linux struct {
		UIDMappings []wire.IDMap `json:"uidMappings"`
		GIDMappings []wire.IDMap `json:"gidMappings"`
	}
	var mounts []mount
	for key, into := range map[string]any{"process": &process, "linux": &linux, "mounts": &mounts} {
		if err := config.get(key, into); err != nil {
			return req, err
		}
	}
	var u user
	if err := process.get("user", &u); err != nil {
		return req, err
	}
	req.UIDMap, req.GIDMap = linux.UIDMappings, linux.GIDMappings
	req.UID, req.GID = wire.HostID(u.UID, req.UIDMap), wire.HostID(u.GID, req.GIDMap)
	rec := engineRecord(mounts, id)
	req.Name, req.Project = rec.Name, rec.Labels[labelProject]
	found := rules.For(rec)
	if req.Missing = found.Missing; len(req.Missing) > 0 {
		return req, nil
	}
	var given []wire.Reference
	for _, r := range found.References {
		given = append(given, wire.Reference{Variable: r.Variable, Ref: r.Ref, Given: true})
	}
	if len(given) > 0 {
		if err := give(process, given); err != nil {
			return req, err
		}
		if err := config.set("process", process); err != nil {
			return req, err
		}
	}
	var err error
	req.References, err = references(process, given)
	return req, err
}
