package hostsetup

import (
	"io/fs"
	"path/filepath"
)

// Kind is what a step does.
type Kind string

// The kinds of steps.
const (
	MakeGroup  Kind = "group"     // Name
	MakeDir    Kind = "directory" // Path, Mode, Group
	WriteFile  Kind = "file"      // Path, Mode, Content
	CopyFile   Kind = "program"   // Path, Source
	EnableUnit Kind = "enable"    // Name: at boot
	StartAgent Kind = "start"     // now
	RunAgent   Kind = "container" // the agent, as a container
)

// Effect is who must hear of a file that has changed, when it is written and when it
// is put back.
type Effect string

// The effects.
const (
	ReloadUnits  Effect = "reload-units"
	ReloadEngine Effect = "reload-engine"
	CreateFiles  Effect = "create-files" // of tmpfiles.d
)

// Step is one thing to do. What it needs depends on its kind.
type Step struct {
	Kind    Kind        `json:"kind"`
	What    string      `json:"what"` // for people
	Path    string      `json:"path,omitempty"`
	Name    string      `json:"name,omitempty"`
	Source  string      `json:"source,omitempty"`
	Mode    fs.FileMode `json:"mode,omitempty"`
	Group   string      `json:"group,omitempty"`
	Effect  Effect      `json:"effect,omitempty"`
	Content []byte      `json:"-"`
	// Before is the text that Content replaces, to be shown; empty for a new file.
	Before []byte `json:"-"`
}

// Plan is what is to be done, in this order.
type Plan struct {
	Steps []Step `json:"steps"`
	// Notes are what a person should know beside the steps.
	Notes []string `json:"notes,omitempty"`
	// Registration is what the engine must say of itself afterwards.
	Registration Registration `json:"registration"`
}

// Registration is how the engine knows dso-runtime.
type Registration struct {
	Path    string `json:"path"`    // of dso-runtime
	Default bool   `json:"default"` // it is the engine's default runtime
}

// RuntimeName is the name of dso-runtime in the engine.
const RuntimeName = "dso"

// The places on a host that are always the same.
const (
	groupName      = "dso"
	configDir      = "/etc/dso"
	credentialsDir = "/etc/dso/credentials"
	stateDir       = "/var/lib/dso"
	auditDir       = "/var/lib/dso/audit"
	runDir         = "/run/dso"
	lockDir        = "/run/lock/dso"
	vaultDir       = "/root/.dso"
	unitDir        = "/etc/systemd/system"
	packageUnitDir = "/usr/lib/systemd/system"
	tmpfilesPath   = "/etc/tmpfiles.d/dso.conf"
	packageTmpfile = "/usr/lib/tmpfiles.d/dso.conf"
	pluginDir      = "/usr/local/lib/docker/cli-plugins"
	programDir     = "/usr/local/bin"
	daemonConfig   = "/etc/docker/daemon.json"
	recordName     = "setup.json"
)

var recordPath = filepath.Join(stateDir, recordName)
