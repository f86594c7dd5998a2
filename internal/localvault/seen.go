package localvault

import (
	"os"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// fileState tells one content of a secret's file from any other: files are only
// ever replaced whole, so a new content is a new file.
type fileState struct {
	dev, ino uint64
	size     int64
	changed  time.Time
}

// seenVersion is the current version that a file of that state holds.
type seenVersion struct {
	state   fileState
	version secret.Version
}

// seen returns the state of the secret's file and, when it was read before in
// that very state, the version it holds: asking for versions must not cost a
// decryption of the whole history each time.
func (v *Vault) seen(path string) (fileState, secret.Version) {
	if checkName(path) != nil {
		return fileState{}, ""
	}
	state, ok := stateOf(v.file(path))
	if !ok {
		return fileState{}, ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.versions[path]; s.state == state {
		return state, s.version
	}
	return state, ""
}

// see remembers what a file held that had the state before it was read.
func (v *Vault) see(path string, state fileState, version secret.Version) {
	if now, ok := stateOf(v.file(path)); !ok || now != state {
		return // replaced meanwhile
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.versions == nil {
		v.versions = map[string]seenVersion{}
	}
	v.versions[path] = seenVersion{state, version}
}

func stateOf(file string) (fileState, bool) {
	info, err := os.Lstat(file)
	if err != nil {
		return fileState{}, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileState{}, false
	}
	return fileState{uint64(st.Dev), st.Ino, info.Size(), info.ModTime()}, true
}
