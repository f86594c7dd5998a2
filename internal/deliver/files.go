package deliver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// File is one file that a container shall see.
type File struct {
	Path     string // below the container's directory, slash-separated
	Value    secret.Value
	UID, GID int
	Mode     fs.FileMode
}

// dataLink is the symlink through which every file is reached; swapping it
// changes all of them at once.
const dataLink = "..data"

// WriteFiles makes dir show exactly the given files, all changing in one
// instant. Names that begin with two dots are the writer's own.
func WriteFiles(dir string, files []File, now time.Time) error {
	if err := mkdirShown(dir); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	fresh, err := os.MkdirTemp(dir, now.UTC().Format("..2006_01_02_15_04_05.*"))
	if err != nil {
		return fmt.Errorf("create a directory in %s: %w", dir, err)
	}
	if err := fillGeneration(fresh, files); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	generation := filepath.Base(fresh)
	if err := swapLink(dir, dataLink, generation); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := showNames(dir, files); err != nil {
		return err
	}
	return sweep(dir, generation)
}

// sweep removes the generations before this one, also what a writer that was
// killed left.
func sweep(dir, generation string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, "..") && name != dataLink && name != generation {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return errors.Join(errs...)
}

func fillGeneration(fresh string, files []File) error {
	if err := mkdirShown(fresh); err != nil {
		return fmt.Errorf("create %s: %w", fresh, err)
	}
	for _, f := range files {
		if err := mkdirsShown(fresh, filepath.Dir(f.Path)); err != nil {
			return fmt.Errorf("create the directory of %s: %w", f.Path, err)
		}
		if err := writeFile(filepath.Join(fresh, f.Path), f); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	return nil
}

// writeFile creates the file for root alone and opens it up once it is complete.
func writeFile(path string, f File) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Value.Reveal())
	// In this order: the mode of a file that is somebody else's takes CAP_FOWNER.
	if err == nil {
		err = out.Chmod(f.Mode)
	}
	if err == nil {
		err = out.Chown(f.UID, f.GID)
	}
	return errors.Join(err, out.Close())
}

// showNames makes each top-level name a symlink through dataLink and removes
// the names that are no longer there.
func showNames(dir string, files []File) error {
	want := map[string]bool{}
	for _, f := range files {
		top, _, _ := strings.Cut(f.Path, "/")
		if want[top] {
			continue
		}
		want[top] = true
		target := filepath.Join(dataLink, top)
		if got, err := os.Readlink(filepath.Join(dir, top)); err != nil || got != target {
			if err := swapLink(dir, top, target); err != nil {
				return err
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, "..") && !want[name] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func swapLink(dir, name, target string) error {
	tmp := filepath.Join(dir, "..tmp-"+name)
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}

// mkdirShown makes a directory that any user of the container can list, whatever
// the umask is. The host is kept out by the private root above it.
func mkdirShown(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

func mkdirsShown(base, rel string) error {
	for part := range strings.SplitSeq(rel, "/") {
		if part == "." {
			return nil
		}
		base = filepath.Join(base, part)
		if err := mkdirShown(base); err != nil {
			return err
		}
	}
	return nil
}
