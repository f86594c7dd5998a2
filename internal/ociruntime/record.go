package ociruntime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker-secret-operator/dso/internal/target"
)

// labelProject is the label of a Compose project.
const labelProject = "com.docker.compose.project"

// engineRecord reads the container's name and labels from the engine's own record of
// it, config.v2.json. The records of all containers lie in directories beside each other,
// and those hold the files too that the engine mounts over /etc/hostname, /etc/hosts and
// /etc/resolv.conf: those of another container for one that lives in the other's network.
// Without a record both are empty.
func engineRecord(mounts []mount, id string) target.Container {
	for _, m := range mounts {
		if !strings.HasPrefix(m.Destination, "/etc/") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(m.Source)), id, "config.v2.json"))
		if err != nil {
			continue
		}
		var rec struct {
			Name   string
			Config struct{ Labels map[string]string }
		}
		if json.Unmarshal(data, &rec) == nil {
			return target.Container{Name: strings.TrimPrefix(rec.Name, "/"), Labels: rec.Config.Labels}
		}
	}
	return target.Container{}
}
