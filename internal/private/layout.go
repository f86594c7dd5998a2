package private

import "path/filepath"

// Dir is where the tmpfs is mounted unless an option says otherwise.
const Dir = "/run/dso/private"

// The directories on the tmpfs.
const (
	filesDir   = "files"     // the files that containers see, by container id
	envDir     = "env"       // what containers were started with
	recordsDir = "delivered" // which versions that was; no values
	bundlesDir = "bundles"   // dso-runtime's, for the moment of a start or an exec
)

// Dirs lists the directories that must exist.
func Dirs(root string) []string {
	return []string{
		filepath.Join(root, filesDir), Envs(root), Records(root), Bundles(root),
	}
}

// Bundles is the directory of the rewritten bundles.
func Bundles(root string) string { return filepath.Join(root, bundlesDir) }

// Envs is the directory of the environments that containers were started with.
func Envs(root string) string { return filepath.Join(root, envDir) }

// Records is the directory of the delivery records.
func Records(root string) string { return filepath.Join(root, recordsDir) }

// Files is the directory that a container sees its files in.
func Files(root, containerID string) string { return filepath.Join(root, filesDir, containerID) }

// Record is the file that says which versions a container was given.
func Record(root, containerID string) string {
	return filepath.Join(root, recordsDir, containerID+".json")
}

// EnvFile holds the values that a container was started with (wire.Started). It lets dso-runtime answer an exec, and so
// every health check, without the agent.
func EnvFile(root, containerID string) string {
	return filepath.Join(root, envDir, containerID+".json")
}
