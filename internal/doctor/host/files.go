package host

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/lockfile"
)

// state reads the state files: each is one JSON object.
func (h Host) state() []doctor.StateFile {
	dir := filepath.Join(h.StateDir, "state")
	names := []string{"rotations.json", "pins.json", "networks.json", "targets.json", "history.json"}
	var rows []doctor.StateFile
	for _, name := range names {
		row := doctor.StateFile{Path: filepath.Join(dir, name)}
		data, err := durable.Read(row.Path)
		var object map[string]any
		switch {
		case errors.Is(err, fs.ErrNotExist):
			row.Missing = true
		case err != nil:
			row.Err = err.Error()
		default:
			if err := json.Unmarshal(data, &object); err != nil {
				row.Err = err.Error()
			} else if object == nil {
				row.Err = "it holds no JSON object"
			}
		}
		row.Quarantined, _ = filepath.Glob(row.Path + ".corrupt-*")
		rows = append(rows, row)
	}
	return rows
}

// locks looks at the lock files of the secrets; unseen is why it could not.
func (h Host) locks() (rows []doctor.Lock, unseen string) {
	dir := filepath.Join(h.StateDir, "locks")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err.Error()
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		st, err := os.Lstat(path)
		if err != nil {
			continue // gone meanwhile
		}
		row := doctor.Lock{Path: path, Age: time.Since(st.ModTime())}
		f, err := lockfile.Look(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		row.Held = f.Held
		if err != nil {
			row.Err = err.Error()
		}
		rows = append(rows, row)
	}
	return rows, ""
}

// paths are those whose modes matter, with what they may be at most.
func (h Host) paths(configFile string) []doctor.Path {
	in := func(dir string, parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	rows := []doctor.Path{
		{Path: in(h.StateDir, "state"), Most: 0o700, Dir: true, Needed: true},
		{Path: in(h.StateDir, "locks"), Most: 0o700, Dir: true, Needed: true},
		{Path: in(h.StateDir, "sealed"), Most: 0o700, Dir: true},
		{Path: in(h.StateDir, "audit"), Most: 0o700, Dir: true, Needed: true},
		{Path: in(h.StateDir, "state", "rotations.json"), Most: 0o600},
		{Path: in(h.StateDir, "state", "fingerprint.key"), Most: 0o600, Needed: true},
		{Path: in(h.RunDir, "dso.sock"), Most: 0o660, Needed: true},
		{Path: in(h.RunDir, "runtime.sock"), Most: 0o600, Needed: true},
		{Path: in(h.RunDir, "private"), Most: 0o700, Dir: true, Needed: true},
	}
	if dir, err := localvault.DefaultDir(); err == nil {
		rows = append(rows, doctor.Path{Path: dir, Most: 0o700, Dir: true}, doctor.Path{Path: filepath.Join(dir, "key.txt"), Most: 0o600})
	}
	if configFile != "" {
		rows = append(rows, doctor.Path{Path: configFile, Most: 0o644}) // what holds a credential is refused when it is read
	}
	for i := range rows {
		look(&rows[i])
	}
	return rows
}

func look(p *doctor.Path) {
	st, err := os.Lstat(p.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Missing = true
	case err != nil:
		p.Err = err.Error()
	default:
		p.Mode = st.Mode()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			p.UID = int(sys.Uid)
		}
	}
}

// fixable keeps a repair from being about anything but what is looked at.
func (h Host) fixable(path string) bool {
	paths, _ := filepath.Glob(filepath.Join(h.StateDir, "locks", "*"))
	if slices.Contains(paths, path) {
		return true
	}
	for _, s := range h.state() {
		if slices.Contains(s.Quarantined, path) {
			return true
		}
	}
	return slices.ContainsFunc(h.paths(h.config().File), func(p doctor.Path) bool { return p.Path == path })
}
