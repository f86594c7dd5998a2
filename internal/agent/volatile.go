package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/private"
)

// The directories on the private tmpfs that hold what is written to a state directory
// whose disk is read-only. Sealed values stay sealed there.
const (
	volatileUpper = "state-written"
	volatileWork  = "state-work"
)

// coverReadOnly lays a layer in memory over a state directory that cannot be written to.
// An agent needs one, and one that serves starts is worth more than none.
func (cfg Config) coverReadOnly(tmpfs string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(cfg.StateDir, &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		return err
	}
	if cfg.OnHost { // fronts see their maps there too
		return private.OnHost(cfg.StateDir, func() error { return cover(cfg.StateDir, tmpfs) })
	}
	return cover(cfg.StateDir, tmpfs)
}

func cover(stateDir, private string) error {
	upper, work := filepath.Join(private, volatileUpper), filepath.Join(private, volatileWork)
	for _, dir := range []string{upper, work} {
		if err := durable.MkdirPrivate(dir); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", stateDir, upper, work)
	if err := unix.Mount("dso-state", stateDir, "overlay", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("%s is on a disk that is read-only, and a layer in memory could not be laid over it: %w", stateDir, err)
	}
	return nil
}

// volatile reports whether the state directory is covered: what is written there is gone
// with the host.
func volatile(stateDir, private string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(stateDir, &fs) != nil || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return false
	}
	_, err := os.Stat(filepath.Join(private, volatileUpper))
	return err == nil
}
