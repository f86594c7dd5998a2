package localvault

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// seen remembers which version is current in a file that did not change since.
// Versions are asked for at every start of a container and at every comparison,
// and each answer would cost the opening of an age file. It holds no values.
type seen struct {
	mu       sync.Mutex
	versions map[string]seenVersion // by path of the secret
}

type seenVersion struct {
	state   fileState
	version secret.Version
}

// fileState changes whenever a file is replaced or written to.
type fileState struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// stateOf is the zero state for a file that cannot be looked at.
func stateOf(file string) fileState {
	var st unix.Stat_t
	if unix.Stat(file, &st) != nil {
		return fileState{}
	}
	return fileState{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

func (s *seen) version(path string, state fileState) (secret.Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.versions[path]
	return v.version, ok && state != fileState{} && v.state == state
}

// remember takes the state that the file had before it was read: should it have
// been replaced meanwhile, what is remembered is never asked for.
func (s *seen) remember(path string, state fileState, v secret.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions == nil {
		s.versions = map[string]seenVersion{}
	}
	s.versions[path] = seenVersion{state, v}
}
