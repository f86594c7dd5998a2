package leak

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/docker-secret-operator/dso/test/search"
)

// findInProcesses looks in the arguments and the environment of every process of
// the machine that is not a container's own.
func findInProcesses(needles []search.Needle) []string {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return []string{err.Error()}
	}
	entries, _ := os.ReadDir("/proc")
	var found []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		dir := "/proc/" + entry.Name()
		for _, file := range []string{"cmdline", "environ"} {
			content, err := os.ReadFile(dir + "/" + file)
			if err != nil {
				continue
			}
			form := search.Find(content, needles)
			if form == "" {
				continue
			}
			// A container's process has a namespace of its own; it may, and does,
			// have the value in its environment.
			if ns, err := os.Readlink(dir + "/ns/pid"); err == nil && ns == own {
				comm, _ := os.ReadFile(dir + "/comm")
				found = append(found, fmt.Sprintf("%s of process %s (%s) (%s)", file, entry.Name(), strings.TrimSpace(string(comm)), form))
			}
		}
	}
	return found
}
