package doctor

import (
	"io/fs"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// Facts are what was seen of a host. An empty Err says that a part could be looked at.
type Facts struct {
	Now         time.Time
	Version     string // of the command line
	Root        bool   // who looks may see everything
	Agent       Agent
	Engine      Engine
	Systemd     Systemd
	ByEngine    ByEngine
	Config      Config
	State       []StateFile
	Locks       []Lock
	LocksUnseen string // why the locks could not be looked at
	Paths       []Path
	Disks       []Disk
	Clock       Clock
	Tmpfs       Tmpfs
	Compose     Compose
	Audit       Audit
}

// Agent is what the agent says, and which agents there are.
type Agent struct {
	Socket    string
	Reached   bool
	Err       string // why it was not
	Denied    bool   // it may not be asked by who looks
	Status    wire.Status
	Leftovers []wire.Leftover
	Fronts    []wire.Front
	Processes []Process
	// PartErr is why Leftovers or Fronts could not be had.
	PartErr string
}

// Process is a running dso-agent.
type Process struct {
	PID     int
	Standby bool
	Args    []string
}

// Engine is what the engine says.
type Engine struct {
	Socket         string
	Err            string
	Version        string
	API            string
	Root           string // its data root
	DefaultRuntime string
	Runtimes       map[string]Runtime
	Containers     []Container
	Offset         time.Duration // of its clock
}

// Runtime is an OCI runtime that is registered.
type Runtime struct {
	Path string
	Err  string // why it could not be started
}

// Container is one that DSO has to do with.
type Container struct {
	ID, Name     string
	State        string
	Health       string
	Error        string // why its last start failed
	Runtime      string
	Project      string
	Service      string
	Number       string // of the replica
	Rotation     string // id of the rotation that made it; empty: none
	FrontOf      string // the service behind it, of a front
	References   int
	RestartCount int
}

// Systemd is what systemd says of the agent's unit.
type Systemd struct {
	Present bool
	Unit    bool // there is one
	Enabled bool
	Active  bool
	// BeforeDocker says that the agent, or its sockets, come before the engine.
	BeforeDocker bool
}

// ByEngine is what the engine says of the agent's container.
type ByEngine struct {
	Present bool // the agent is one
	Enabled bool // the engine starts it when it starts itself
}

// Config is the configuration file.
type Config struct {
	File     string // empty: none
	Problems []string
}

// StateFile is one durable file.
type StateFile struct {
	Path        string
	Missing     bool
	Err         string
	Quarantined []string
}

// Lock is a lock file of a secret.
type Lock struct {
	Path string
	Held bool
	Age  time.Duration
	Err  string
}

// Path is a file or directory with what it must be like.
type Path struct {
	Path    string
	Missing bool
	Err     string
	Mode    fs.FileMode
	UID     int
	Most    fs.FileMode // the widest mode that it may have
	Dir     bool        // it must be a directory
	Needed  bool        // it must be there while an agent runs
}

// Disk is the file system that a path is on.
type Disk struct {
	Path                    string
	Err                     string
	Free, Total             uint64 // bytes
	FreeInodes, TotalInodes uint64 // TotalInodes 0: it has no fixed number
}

// Clock is the host's.
type Clock struct {
	Known        bool
	Synchronized bool
}

// Tmpfs is what is mounted on the private directory.
type Tmpfs struct {
	Path   string
	Err    string
	Type   string // of the file system; empty: nothing is mounted there
	NoSwap bool
	Times  int // how often
}

// Compose is the docker compose that is found.
type Compose struct {
	Version string
	Err     string
}

// Audit is the audit log.
type Audit struct {
	Err      string // it could not be looked at
	Records  int
	Problems []string
	Torn     bool
}
