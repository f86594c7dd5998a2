package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CorruptError says that a state file could not be read and was moved aside, so
// that nothing is lost and the program can start.
type CorruptError struct {
	Path       string // of the file
	Quarantine string // where its content lies now; empty: it was missing
	// FromLast says that the generation before was read instead.
	FromLast bool
	Err      error
}

func (e *CorruptError) Error() string {
	if e.Quarantine == "" {
		return fmt.Sprintf("state %s is missing, and the generation before is there", e.Path)
	}
	return fmt.Sprintf("failed to unmarshal state %s: %v; its content was moved to %s", e.Path, e.Err, e.Quarantine)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// ErrNewer is wrapped by what decode returns for a state that a newer version of the
// program has written. Such a file is left as it is: it is not damaged.
var ErrNewer = errors.New("a newer version has written it")

// last is the name of the generation before.
func last(path string) string { return path + ".last" }

// SaveState replaces a state file as [WriteFile] does, mode 0600, and keeps the
// generation before.
func SaveState(path string, data []byte) error {
	if err := keepLast(path); err != nil {
		return fmt.Errorf("keep the last generation of %s: %w", path, err)
	}
	return WriteFile(path, data, 0o600)
}

// keepLast gives the current content a second name. WriteFile makes it durable
// together with the new content.
func keepLast(path string) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+temporary+"last")
	if err := ignoreNotExist(os.Remove(tmp)); err != nil {
		return err
	}
	if err := os.Link(path, tmp); err != nil {
		return ignoreNotExist(err)
	}
	if err := os.Rename(tmp, last(path)); err != nil {
		return err
	}
	// Between two names of one file, which a write that failed leaves, rename(2) does
	// nothing: then the first is still there.
	return ignoreNotExist(os.Remove(tmp))
}

// LoadState reads a state file with decode. Without a file and a generation before,
// nothing is decoded.
// One that cannot be read or decoded is moved aside and the generation before is
// decoded, if it is good; the error then is a [*CorruptError] and the state is
// usable. One of a newer version is an error that wraps [ErrNewer], and stays.
// decode must leave no trace of an attempt that fails.
func LoadState(path string, now time.Time, decode func([]byte) error) error {
	err := load(path, decode)
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("open state %s: %w", path, err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if load(last(path), decode) != nil {
			return nil
		}
		return &CorruptError{Path: path, FromLast: true, Err: err}
	}
	corrupt := &CorruptError{Path: path, Quarantine: quarantine(path, now), Err: err}
	if err := Rename(path, corrupt.Quarantine); err != nil {
		return fmt.Errorf("open %s: %w", path, errors.Join(corrupt.Err, err))
	}
	corrupt.FromLast = load(last(path), decode) == nil
	return corrupt
}

func load(path string, decode func([]byte) error) error {
	data, err := Read(path)
	if err != nil {
		return err
	}
	return decode(data)
}

// Read reads a file of state. What else may lie in its place is an error, and a pipe
// holds nobody.
func Read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a file", path))
	}
	return io.ReadAll(f)
}

// quarantine returns a path for an unreadable file, on which nothing lies yet.
func quarantine(path string, now time.Time) string {
	base := fmt.Sprintf("%s.corrupt-%s", path, now.UTC().Format("20060102T150405Z"))
	aside := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); err != nil {
			return aside
		}
		aside = fmt.Sprintf("%s-%d", base, n)
	}
}
