package ociruntime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// engineRecord reads the container's name and Compose project from the engine's
// own record of it, config.v2.json. The record lies beside the files that the
// engine mounts over /etc/hostname, /etc/hosts and /etc/resolv.conf. Without it
// both are empty.
func engineRecord(mounts []mount, id string) (name, project string) {
	for _, m := range mounts {
		dir := filepath.Dir(m.Source)
		if !strings.HasPrefix(m.Destination, "/etc/") || filepath.Base(dir) != id {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "config.v2.json"))
		if err != nil {
			continue
		}
		var rec struct {
			Name   string
			Config struct{ Labels map[string]string }
		}
		if json.Unmarshal(data, &rec) == nil {
			return strings.TrimPrefix(rec.Name, "/"), rec.Config.Labels["com.docker.compose.project"]
		}
	}
	return "", ""
}
