package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An engine that is killed while it starts a container leaves the container's shim
// behind, with a task in containerd that nobody asks for. Engine 20.10 then refuses
// every start of the container for ever, and only the container's removal would help: with
// "task … already exists" where the task was being made, with "id already in use" where it
// was made and not started yet. When the shim ends, containerd drops the task.

// orphanWait bounds how long containerd may take to notice that a shim has ended,
// and orphanPause is how often it is asked.
const (
	orphanWait  = 10 * time.Second
	orphanPause = 100 * time.Millisecond
)

// Stuck reports whether the container's last start failed because of such a task.
// The engine has no class for this error: its text is all there is.
func (c Container) Stuck() bool {
	return !c.Running() && (strings.Contains(c.State.Error, "task "+c.ID+": already exists") || strings.Contains(c.State.Error, "id already in use"))
}

// started is the error of start, once no task is in its way that the engine does
// not know of.
func (c *Client) started(ctx context.Context, id string, start func() error) error {
	err := start()
	for deadline := time.Now().Add(orphanWait); err != nil && time.Now().Before(deadline); err = start() {
		// While another start goes on this waits for it.
		now, inspectErr := c.Inspect(ctx, id)
		if inspectErr != nil || !now.Stuck() {
			return err
		}
		if endErr := endShims("/proc", now.ID); endErr != nil {
			return errors.Join(err, endErr)
		}
		select {
		case <-time.After(orphanPause):
		case <-ctx.Done():
			return err
		}
	}
	return err
}

// endShims kills the shims of a container, and what they had begun.
func endShims(proc, id string) error {
	found, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "cmdline"))
	if err != nil {
		return err
	}
	for _, path := range found {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil || !isShimOf(path, id) {
			continue
		}
		for _, begun := range append([]int{pid}, descendants(proc, pid)...) {
			if err := unix.Kill(begun, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d of container %s: %w", begun, ShortID(id), err)
			}
		}
	}
	return nil
}

// isShimOf reports whether a command line is that of a container's shim, such as
// "containerd-shim-runc-v2 -namespace moby -id ID -address SOCKET".
func isShimOf(cmdline, id string) bool {
	line, err := os.ReadFile(cmdline)
	if err != nil {
		return false
	}
	args := strings.Split(string(line), "\x00")
	at := slices.Index(args, "-id")
	return strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") && at > 0 && at+1 < len(args) && args[at+1] == id
}

// descendants returns the processes below one, the lowest first.
func descendants(proc string, pid int) []int {
	var below []int
	lists, _ := filepath.Glob(filepath.Join(proc, strconv.Itoa(pid), "task", "*", "children"))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, word := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				continue
			}
			below = append(below, descendants(proc, child)...)
			below = append(below, child)
		}
	}
	return below
}
