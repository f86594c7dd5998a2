package wire

import (
	"fmt"
	"time"
)

// The agent's API for people is HTTP with JSON bodies over [AgentSocket]. Names
// of secrets are as typed; Project is the Compose project of the caller's
// directory, for names without a namespace.

// SetRequest stores a new version of a secret (PUT /v1/secret).
type SetRequest struct {
	Name       string `json:"name"`
	Project    string `json:"project,omitempty"`
	Value      []byte `json:"value"`
	AllowEmpty bool   `json:"allow_empty,omitempty"`
}

// NameRequest names a secret, and a version where the call takes one.
type NameRequest struct {
	Name    string `json:"name"`
	Project string `json:"project,omitempty"`
	Version string `json:"version,omitempty"`
	Force   bool   `json:"force,omitempty"`
}

// VersionResponse answers what stores a version.
type VersionResponse struct {
	Name    string `json:"name"` // with its namespace
	Version string `json:"version"`
	Changed bool   `json:"changed"` // false: the value was the current one already
}

// ValueResponse answers POST /v1/secret/get.
type ValueResponse struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Value   []byte `json:"value"`
}

// SecretInfo is one row of GET /v1/secrets.
type SecretInfo struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Created  time.Time `json:"created"`
	Versions int       `json:"versions"` // how many are kept
	Size     int       `json:"size"`     // of the current value, in bytes
}

// SecretVersion is one row of POST /v1/secret/history.
type SecretVersion struct {
	Version string    `json:"version"`
	Created time.Time `json:"created"`
	Author  string    `json:"author,omitempty"`
	Size    int       `json:"size"`
	Deleted bool      `json:"deleted,omitempty"`
	Current bool      `json:"current,omitempty"`
}

// RotateRequest rotates what uses a secret, or one container, or, with neither, all that is
// not up to date (POST /v1/rotate).
// The answer is a stream of [RotateEvent], one JSON document a line.
type RotateRequest struct {
	Secret    string `json:"secret,omitempty"`
	Project   string `json:"project,omitempty"`
	Container string `json:"container,omitempty"`
	// Force rotates also what is up to date, or pinned.
	Force  bool   `json:"force,omitempty"`
	NoWait bool   `json:"no_wait,omitempty"` // answer as soon as the work has begun
	Cause  string `json:"cause,omitempty"`
}

// RotateEvent is one line of the answer to a [RotateRequest]. Exactly one member
// is set; Done or Error comes last.
type RotateEvent struct {
	Step  *RotateStep    `json:"step,omitempty"`
	Done  []RotateResult `json:"done"`
	Error string         `json:"error,omitempty"`
}

// RotateStep is one step as it begins.
type RotateStep struct {
	Rotation  string    `json:"rotation"`
	Container string    `json:"container"`
	Strategy  string    `json:"strategy"`
	Step      string    `json:"step,omitempty"`
	Phase     string    `json:"phase,omitempty"`   // forward, back, adopt, recreate or yield
	Outcome   string    `json:"outcome,omitempty"` // on the last one
	Detail    string    `json:"detail,omitempty"`
	Time      time.Time `json:"time"`
}

// RotateResult is how it ended for one container.
type RotateResult struct {
	Container string   `json:"container"`
	Strategy  string   `json:"strategy,omitempty"`
	Reasons   []string `json:"reasons,omitempty"`
	Outcome   string   `json:"outcome,omitempty"` // empty: it was up to date
	Error     string   `json:"error,omitempty"`
	Note      string   `json:"note,omitempty"` // what the caller should know besides
}

// JSONVersion is the version of everything that the command line prints as JSON. A
// member that is added does not change it; one that goes, or gets another meaning,
// raises it. docs/reference/json.md has the shapes.
const JSONVersion = 1

// Status answers GET /v1/status.
type Status struct {
	SchemaVersion int               `json:"schema_version"` // JSONVersion
	Runtime       RuntimeStatus     `json:"runtime"`
	AgentReached  bool              `json:"agent_reached"`
	AgentError    string            `json:"agent_error"`
	Providers     []ProviderStatus  `json:"providers"`
	Secrets       []SecretStatus    `json:"secrets"`
	Containers    []ContainerStatus `json:"containers"`
	Cache         *CacheStatus      `json:"cache,omitempty"`
	Fronts        []Front           `json:"fronts"`
	Rotations     RotationStatus    `json:"rotations"`
	Queue         *QueueStatus      `json:"queue,omitempty"`
	// AuditHead is the last record of the audit log, as docker dso audit verify takes it.
	AuditHead string `json:"audit_head,omitempty"`
	Health    string `json:"health"` // healthy, degraded, critical or unreachable
	// Configuration is set when the file is not what holds.
	Configuration *RejectedConfiguration `json:"configuration,omitempty"`
	// Reasons say why it is not healthy.
	Reasons []string `json:"health_reasons,omitempty"`
}

// NoStatus is the status without an agent: what only it knows is left out.
type NoStatus struct {
	SchemaVersion int    `json:"schema_version"`
	AgentReached  bool   `json:"agent_reached"` // false
	AgentError    string `json:"agent_error"`
	Health        string `json:"health"` // unreachable
}

// The words of [Status.Health].
const (
	Healthy     = "healthy"
	Degraded    = "degraded"    // something is not as it should be, and containers serve
	Critical    = "critical"    // a person is needed
	Unreachable = "unreachable" // no agent answers
)

// SecretStatus is what the agent knows of one secret in use.
type SecretStatus struct {
	Secret   string `json:"secret"` // provider:path
	Version  string `json:"version,omitempty"`
	Provider string `json:"provider"`
	// Since is when the store made this version, where it tells that (the local
	// vault), otherwise when this agent heard of it for the first time.
	Since    time.Time `json:"version_since,omitzero"`
	Age      string    `json:"age,omitempty"`
	Checked  time.Time `json:"checked,omitzero"`   // the last call about it began
	NextPoll time.Time `json:"next_poll,omitzero"` // unless something happens before
	UsedBy   []string  `json:"used_by"`            // names of containers
	Error    string    `json:"error,omitempty"`    // of the last call
}

// CacheStatus counts what is known without asking a store.
type CacheStatus struct {
	Entries int `json:"entries"` // secrets whose current version is known
}

// QueueStatus describes the queue of the engine's events, since the agent began.
type QueueStatus struct {
	Depth     int    `json:"depth"`
	MaxDepth  int    `json:"max_depth"` // the most that waited at once
	Capacity  int    `json:"capacity"`
	Processed uint64 `json:"processed"`
	Dropped   uint64 `json:"dropped"` // harmless: everything was compared afterwards
}

// RejectedConfiguration says why the last good configuration holds instead of what stands
// in the file.
type RejectedConfiguration struct {
	File     string   `json:"file"`
	Problems []string `json:"problems"`
}

// RuntimeStatus describes the agent's process.
type RuntimeStatus struct {
	Mode      string    `json:"mode"`
	Version   string    `json:"version"`
	Uptime    string    `json:"uptime"`
	StartTime time.Time `json:"start_time"`
}

// ProviderStatus describes one provider.
type ProviderStatus struct {
	Name        string        `json:"name"`
	Status      string        `json:"status"` // ok, error
	Message     string        `json:"message,omitempty"`
	Circuit     Circuit       `json:"circuit"`
	Calls       ProviderCalls `json:"calls"`
	Secrets     int           `json:"secrets"` // in use
	Interval    *PollInterval `json:"interval,omitempty"`
	Budget      *CallBudget   `json:"budget,omitempty"`
	LastSuccess time.Time     `json:"last_success,omitzero"`
}

// Circuit says whether a provider is asked at all. While it is open, it is asked by
// starts, and at NextTry.
type Circuit struct {
	State    string    `json:"state"`    // closed, open
	Failures int       `json:"failures"` // calls in a row that failed
	Since    time.Time `json:"since,omitzero"`
	NextTry  time.Time `json:"next_try,omitzero"`
}

// ProviderCalls counts the calls made to a provider since the agent began to use it,
// retries included.
type ProviderCalls struct {
	Version uint64 `json:"version"`
	Value   uint64 `json:"value"`
	Failed  uint64 `json:"failed"`
}

// PollInterval says how often the secrets of a provider are looked at now: that of the
// one that is looked at most often, and most rarely.
type PollInterval struct {
	Shortest string `json:"shortest"`
	Longest  string `json:"longest"`
}

// CallBudget is what providers.NAME.calls_per_minute allows.
type CallBudget struct {
	PerMinute int    `json:"per_minute"`
	Left      int    `json:"left"`           // for calls at once; below zero: what starts have overdrawn
	Late      string `json:"late,omitempty"` // how long polls wait for it
}

// ContainerStatus describes one managed container.
type ContainerStatus struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	State    string            `json:"state"`
	Health   string            `json:"health,omitempty"`
	Uses     []string          `json:"uses"`     // secrets, whether or not their stores answer
	Has      map[string]string `json:"versions"` // by secret
	Wants    map[string]string `json:"desired"`
	Pinned   bool              `json:"pinned,omitempty"`
	Stale    *Stale            `json:"stale,omitempty"`
	UpToDate bool              `json:"up_to_date"`
	Project  string            `json:"project,omitempty"`
	Service  string            `json:"service,omitempty"`
	// Given is when it was given what it has.
	Given time.Time `json:"given,omitzero"`
	// Pin says since when and because of what it keeps its versions.
	Pin *Pin `json:"pin,omitempty"`
	// Rotation is the one that is going on.
	Rotation *PendingRotation `json:"rotation,omitempty"`
	// Predicted is how long a rotation would take, from those that were.
	Predicted *Prediction `json:"predicted,omitempty"`
	// Held says why the rotation that it waits for may not begin by itself, and
	// HeldUntil when it may, where a window holds it back; see RotationWindow.
	Held      string    `json:"held,omitempty"`
	HeldUntil time.Time `json:"held_until,omitzero"`
	Strategy  string    `json:"strategy,omitempty"`
	Reasons   []string  `json:"reasons,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// PinnedBy is the person who pinned the container; empty: nobody did.
func (c ContainerStatus) PinnedBy() string {
	if c.Pin == nil {
		return ""
	}
	return c.Pin.By
}

// Pin says that a container keeps its versions.
type Pin struct {
	Since time.Time `json:"since"`
	// Failed are the versions that it did not work with; none, and nobody in By: it waits for
	// its turn.
	Failed map[string]string `json:"failed,omitempty"`
	By     string            `json:"by,omitempty"` // the person who asked for it
}

// PinResponse answers POST /v1/container/pin and POST /v1/container/unpin.
type PinResponse struct {
	Container string            `json:"container"`
	Versions  map[string]string `json:"versions,omitempty"` // that it is pinned to, by secret
	Pin       *Pin              `json:"pin,omitempty"`      // none: it was let go
}

// Prediction is an estimate with what it was made from.
type Prediction struct {
	Seconds float64 `json:"seconds"` // the median
	Samples int     `json:"samples"`
	Basis   string  `json:"basis"` // of what they are: this container, this service, this strategy
}

// PendingRotation is a rotation that is not over.
type PendingRotation struct {
	ID          string    `json:"id"`
	Container   string    `json:"container"`
	Strategy    string    `json:"strategy"`
	Status      string    `json:"status"`
	Phase       string    `json:"phase"`
	Step        string    `json:"step"`
	Since       time.Time `json:"since"`
	Age         string    `json:"age"`
	NeedsPerson bool      `json:"needs_person,omitempty"`
	Error       string    `json:"error,omitempty"`
}

// ContainerDetail answers POST /v1/container: one container, with every reference.
type ContainerDetail struct {
	SchemaVersion int `json:"schema_version"`
	ContainerStatus
	Image      string            `json:"image"`
	Runtime    string            `json:"runtime"`
	References []ReferenceDetail `json:"references"`
}

// ReferenceDetail is one variable of a container that holds a reference.
type ReferenceDetail struct {
	Variable  string `json:"variable"`
	Reference string `json:"reference"`
	Secret    string `json:"secret"`            // provider:path
	Has       string `json:"version,omitempty"` // empty: it was not given one yet
	Wants     string `json:"desired,omitempty"`
	// File is where the value lies in the container; empty: in the variable.
	File   string `json:"file,omitempty"`
	Target bool   `json:"by_target,omitempty"` // dso.yaml gives it, the specification does not name it
}

// ContainerRequest names a container, by name or id (POST /v1/container).
type ContainerRequest struct {
	Container string `json:"container"`
}

// SecretUsers answers POST /v1/secret/users.
type SecretUsers struct {
	SchemaVersion int          `json:"schema_version"`
	Secret        string       `json:"secret"` // provider:path
	Version       string       `json:"version,omitempty"`
	Users         []SecretUser `json:"users"`
}

// SecretUser is one container that uses a secret.
type SecretUser struct {
	Container string   `json:"container"`
	ID        string   `json:"id"`
	State     string   `json:"state"`
	Project   string   `json:"project,omitempty"`
	Service   string   `json:"service,omitempty"`
	Variables []string `json:"variables"`
	Has       string   `json:"version,omitempty"`
	UpToDate  bool     `json:"up_to_date"`
}

// Stale says that a container was started with the versions it had before, because
// a store did not tell the current ones.
type Stale struct {
	Since time.Time `json:"since"` // when it was first given these versions
	Age   string    `json:"age"`
	Cause string    `json:"cause"`
}

// RotationStatus counts the rotations that the journal remembers.
type RotationStatus struct {
	Pending    int    `json:"pending"`
	Successful int    `json:"successful"`
	Failed     int    `json:"failed"`
	AvgTime    string `json:"avg_time,omitempty"`
	// Open are those that are pending or need a person, oldest first.
	Open []PendingRotation `json:"open,omitempty"`
	// Window is when rotations may begin; nil: always.
	Window *RotationWindow `json:"window,omitempty"`
}

// RotationWindow is when rotations may begin.
type RotationWindow struct {
	Cron     string    `json:"cron"`
	Duration string    `json:"duration"`
	Open     bool      `json:"open"`
	Opens    time.Time `json:"opens,omitzero"` // next, while it is closed
}

// Rotation is one row of GET /v1/rotations.
type Rotation struct {
	Key       string `json:"key"`
	ID        string `json:"id"`
	Container string `json:"container"`
	Secret    string `json:"secret"`
	// From and To are the versions, by secret.
	From      map[string]string `json:"from,omitempty"`
	To        map[string]string `json:"to,omitempty"`
	Strategy  string            `json:"strategy"`
	Reasons   []string          `json:"reasons,omitempty"` // of the strategy
	Status    string            `json:"status"`
	Phase     string            `json:"phase"` // forward, or how else it went
	Step      string            `json:"step,omitempty"`
	StuckStep string            `json:"stuck_step,omitempty"` // of one that needs a person
	Pending   bool              `json:"pending"`
	Todo      string            `json:"todo,omitempty"` // what recovery does with it; empty: nothing
	Why       string            `json:"why,omitempty"`
	Outcome   string            `json:"outcome,omitempty"`
	Cause     string            `json:"cause"`
	Error     string            `json:"error,omitempty"`
	Started   time.Time         `json:"started"`
	Updated   time.Time         `json:"updated"`
}

// RecoverRequest carries on at once what is pending, and tries again what needs a
// person (POST /v1/recover, answered as a [RotateRequest] is), or ends one
// rotation by a person's word (POST /v1/recover/mark).
type RecoverRequest struct {
	// Key is a rotation's key in the journal, its id, or its container's name;
	// empty, for /v1/recover: all.
	Key string `json:"key,omitempty"`
}

// Leftover is something that the older implementation left behind: one row of
// GET /v1/legacy, and of what POST /v1/legacy did.
type Leftover struct {
	Kind     string   `json:"kind"` // one of the kinds below
	ID       string   `json:"id"`   // of a container; the path of a lock
	Name     string   `json:"name"`
	Of       string   `json:"of"` // the container's name, or the secret, that it belongs to
	Do       string   `json:"do"` // restore, remove or report
	Why      string   `json:"why"`
	Else     string   `json:"else,omitempty"`     // the container that is restored if this one cannot be
	Commands []string `json:"commands,omitempty"` // for a person, where nothing is done
	Done     bool     `json:"done,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// The kinds of a [Leftover].
const (
	LeftoverContainer = "container"
	LeftoverLock      = "lock"
)

// AdoptRequest does what rows of GET /v1/legacy say (POST /v1/legacy), each only if
// a new look still says so.
type AdoptRequest struct {
	Items []Leftover `json:"items"`
}

// PauseRequest asks that no rotation begins in a Compose project: POST /v1/pause. The
// answer, {"paused":true}, comes when none is going on; they begin again when the
// connection ends.
type PauseRequest struct {
	Project string `json:"project"`
}

// CheckRequest asks whether references can be resolved: POST /v1/references/check.
type CheckRequest struct {
	Project    string   `json:"project,omitempty"`
	References []string `json:"references"`
}

// CheckResult is the answer for one reference, in the order of the request.
type CheckResult struct {
	Reference string `json:"reference"`
	Secret    string `json:"secret,omitempty"`
	Version   string `json:"version,omitempty"`
	Error     string `json:"error,omitempty"`
	Code      string `json:"code,omitempty"` // as in a [Problem]
	Hint      string `json:"hint,omitempty"`
}

// ConfigVersion is one of the last good configurations (GET /v1/config/versions, newest
// first, and POST /v1/config/version, where Number asks for one with its content).
type ConfigVersion struct {
	Number  int       `json:"number"` // 1: the newest
	File    string    `json:"file,omitempty"`
	Taken   time.Time `json:"taken,omitzero"` // when it came into force
	Content []byte    `json:"content,omitempty"`
}

// Seal is the answer of GET /v1/seal: the sealed values of before.
type Seal struct {
	Protection string `json:"protection"`    // of the key: tpm2, host, file; off: nothing is sealed
	Key        string `json:"key,omitempty"` // the id of the key, which is no secret
	Dir        string `json:"dir,omitempty"`
	Containers int    `json:"containers"` // that have a sealed set
	Values     int    `json:"values"`
}

// Lock is one row of GET /v1/locks: of a secret, or of the agent's own.
type Lock struct {
	Secret   string    `json:"secret,omitempty"`
	Agent    string    `json:"agent,omitempty"` // what it is of, when it is the agent's own
	Path     string    `json:"path"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"`
	Age      string    `json:"age,omitempty"`
	BootID   string    `json:"boot_id,omitempty"`
	Held     bool      `json:"held"`         // the kernel says that somebody has it
	Alive    bool      `json:"holder_alive"` // a process with this pid exists
	SameBoot bool      `json:"same_boot"`    // it was taken since the host booted
	Note     string    `json:"note,omitempty"`
}

// FrontRequest is about the fronts of a project (POST /v1/fronts/image): nothing is
// done when somebody else has one of the ports.
type FrontRequest struct {
	Project string     `json:"project,omitempty"`
	Ports   []HostPort `json:"ports,omitempty"`
}

// HostPort is a port of the host that a service of the project claims.
type HostPort struct {
	Service string `json:"service"`
	Host    string `json:"host,omitempty"` // an address; empty: any
	Number  uint16 `json:"number"`
	Proto   string `json:"proto"`
}

// FrontImage answers POST /v1/fronts/image: the engine has the image now.
type FrontImage struct {
	Image string `json:"image"`
	Dir   string `json:"dir"` // the host directory of the fronts' maps
}

// Problem is the body of every answer that is not 2xx.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
	Code  string `json:"code,omitempty"` // not_found, empty, no_vault, denied, in_use, invalid
}

// The codes of a [Problem].
const (
	CodeNotFound = "not_found"
	CodeEmpty    = "empty"
	CodeNoVault  = "no_vault"
	CodeDenied   = "denied"
	CodeInUse    = "in_use"
	CodeInvalid  = "invalid"
)

// VaultInfo answers POST /v1/vault.
type VaultInfo struct {
	Dir     string `json:"dir"`
	Created bool   `json:"created"`
}

// Event is one thing that happened in the agent.
type Event struct {
	Number  uint64         `json:"number"` // from 1 for each agent, without a gap
	Time    time.Time      `json:"time"`
	Level   string         `json:"level"` // info, warn or error
	Message string         `json:"msg"`
	Fields  map[string]any `json:"fields,omitempty"`
}

// NotifyRequest sends a test: POST /v1/notifications/test.
type NotifyRequest struct {
	Name string `json:"name,omitempty"` // of one destination; empty: all
}

// NotifyResult is what came of it for one destination.
type NotifyResult struct {
	Name   string `json:"name"`
	Status int    `json:"status,omitempty"` // of HTTP
	Error  string `json:"error,omitempty"`
}

// Front is one front of a status, and what it has in force.
type Front struct {
	Key       string   `json:"key"`       // of its map
	Container string   `json:"container"` // empty: there is none
	Service   string   `json:"service"`   // behind it
	Running   bool     `json:"running"`
	Needed    bool     `json:"needed"`  // a container behind it runs
	Ordered   uint64   `json:"ordered"` // generation of the map; 0: there is none
	Applied   uint64   `json:"applied"` // generation that the kernel has
	Targets   []string `json:"targets"`
	Error     string   `json:"error,omitempty"`
}

// Wrong says why nobody gets through the front; empty when connections get where its map
// says, or will in a moment.
func (f Front) Wrong() string {
	switch {
	case f.Container == "":
		return fmt.Sprintf("service %s has no front: nobody gets to it", f.Key)
	case !f.Running:
		return fmt.Sprintf("front %s of %s does not run", f.Container, f.Key)
	case f.Error != "":
		return fmt.Sprintf("front %s of %s: %s", f.Container, f.Key, f.Error)
	}
	return ""
}
