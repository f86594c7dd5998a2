package engine

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
)

// Labels that Compose and Swarm put on the containers they make.
const (
	LabelComposeProject = "com.docker.compose.project"
	LabelComposeService = "com.docker.compose.service"
	LabelComposeOneoff  = "com.docker.compose.oneoff" // "True" on what docker compose run makes
	LabelSwarmTask      = "com.docker.swarm.task.id"
)

// ShortIDLen is the length of the id that Docker gives a container as its
// default hostname and network alias.
const ShortIDLen = 12

// Container is what the engine says about one container.
type Container struct {
	ID       string
	Name     string // without the leading slash
	ImageID  string
	State    State
	Spec     Spec
	Mounts   []Mount
	Networks map[string]Endpoint // by network name
	// Published are the ports of the host that lead to it while it runs.
	Published []Published
	// Given is what the targets of dso.yaml give it beside its specification.
	Given target.Given
}

// State is the running state of a container.
type State struct {
	Status       container.ContainerState
	Pid          int
	ExitCode     int
	Error        string // why the last start failed
	StartedAt    time.Time
	RestartCount int
	// Health is empty when the container has no health check.
	Health container.HealthStatus
}

// Spec is the complete specification of a container.
type Spec struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Networks   map[string]*network.EndpointSettings
}

// Mount is one mounted volume or directory.
type Mount struct {
	Type        string // volume, bind, tmpfs
	Name        string // of a volume
	Source      string
	Destination string
	Writable    bool
}

// Endpoint is a container's place on one network.
type Endpoint struct {
	NetworkID string
	Addresses []netip.Addr // at most one of each family; none while the container does not run
	Aliases   []string
}

// Published is a port of the host that leads to a port of a container.
type Published struct {
	Host   netip.Addr // the address it is bound to; unspecified: any of its family
	Number uint16
	Proto  string // tcp, udp or sctp
	Inside uint16 // the container's port
}

// ShortID returns the first 12 digits of the container's id.
func (c Container) ShortID() string { return ShortID(c.ID) }

// ShortID shortens a container id as Docker does.
func ShortID(id string) string {
	if len(id) > ShortIDLen {
		return id[:ShortIDLen]
	}
	return id
}

// Running reports whether the container's process runs (and is not between two
// attempts of its restart policy).
func (c Container) Running() bool { return c.State.Status == container.StateRunning }

// Labels returns the container's labels; nil when it has none.
func (c Container) Labels() map[string]string {
	if c.Spec.Config == nil {
		return nil
	}
	return c.Spec.Config.Labels
}

// Label returns one label, or the setting that the targets of dso.yaml give in its
// place; empty when absent.
func (c Container) Label(key string) string {
	if value, ok := c.Labels()[key]; ok {
		return value
	}
	return c.Given.Settings[key]
}

// Project returns the Compose project the container belongs to, or "".
func (c Container) Project() string { return c.Label(LabelComposeProject) }

// Service returns the Compose service the container belongs to, or "".
func (c Container) Service() string { return c.Label(LabelComposeService) }

// Addresses returns the container's addresses on all its networks.
func (c Container) Addresses() []netip.Addr {
	var addrs []netip.Addr
	for _, e := range c.Networks {
		addrs = append(addrs, e.Addresses...)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs
}

// References returns the variables that hold references: those of the specification,
// in the order of the environment, and those that the targets of dso.yaml give, which
// take the place of others. Malformed ones are left out: such a container cannot have
// been started.
func (c Container) References() []Reference {
	var refs []Reference
	add := func(variable, text string, given bool) {
		if ref, err := secret.ParseRef(text); err == nil {
			refs = append(refs, Reference{Variable: variable, Ref: ref, Given: given})
		}
	}
	if c.Spec.Config != nil {
		for _, kv := range c.Spec.Config.Env {
			name, value, _ := strings.Cut(kv, "=")
			given := slices.ContainsFunc(c.Given.References, func(r target.Reference) bool { return r.Variable == name })
			if secret.IsRef(value) && !given {
				add(name, value, false)
			}
		}
	}
	for _, r := range c.Given.References {
		add(r.Variable, r.Ref, true)
	}
	return refs
}

// Reference is a variable of the environment that holds a reference.
type Reference struct {
	Variable string
	Ref      secret.Ref
	Given    bool // by a target of dso.yaml, and not by the specification
}

// Event is one thing that happened to a container.
type Event struct {
	Action string // create, start, die, destroy, rename, health_status: healthy, …
	ID     string
	Labels map[string]string // the labels, plus name and image
}
