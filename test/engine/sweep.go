package testengine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// own records who is responsible for the engine's directory.
func (e *Engine) own() error {
	return os.WriteFile(filepath.Join(e.dir, "owner"), []byte(processIdentity(os.Getpid())), 0o600)
}

// sweep closes the engines of owners that died before they could: a test binary
// that ran into its timeout runs no clean-up. It is best effort.
func sweep(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, "dsot-*"))
	for _, dir := range dirs {
		owner, err := os.ReadFile(filepath.Join(dir, "owner"))
		if err != nil || ownerLives(string(owner)) {
			continue
		}
		suffix := strings.TrimPrefix(filepath.Base(dir), "dsot-")
		dead := &Engine{name: "dsot-" + suffix, client: "dsoc-" + suffix, dir: dir}
		_ = dead.Close()
	}
}

// processIdentity is a pid with the start time of its process: a pid alone is
// soon somebody else's.
func processIdentity(pid int) string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
	const startTime = 19 // field 22 of proc(5), counted after the name
	return fmt.Sprintf("%d %s", pid, fields[startTime])
}

func ownerLives(owner string) bool {
	var pid int
	if _, err := fmt.Sscanf(owner, "%d", &pid); err != nil {
		return true // half written: its owner is just starting
	}
	return processIdentity(pid) == owner
}
