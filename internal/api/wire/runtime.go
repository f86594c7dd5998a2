package wire

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Default paths of the agent's sockets. Both lie in a directory that only root
// can write to.
const (
	RuntimeSocket = "/run/dso/runtime.sock" // 0600 root: answers with values
	AgentSocket   = "/run/dso/dso.sock"     // 0660 root:dso: for people
)

// FilesTarget is where a container sees its files.
const FilesTarget = secret.FilesDir

// DeliverRequest asks for the values of one container's references. It is sent
// by dso-runtime at create and at exec, as the only message of a connection.
type DeliverRequest struct {
	ContainerID string      `json:"container_id"`
	Exec        bool        `json:"exec,omitempty"`
	Name        string      `json:"name,omitempty"`
	Project     string      `json:"project,omitempty"`
	References  []Reference `json:"references"`
	// Missing are the secrets that the container may not be started without, and is not
	// given. dso-runtime refuses the start by itself, and tells it for the agent's records.
	Missing []string `json:"missing,omitempty"`
	// UID and GID own the files whose reference names no owner, as the host
	// sees them; UIDMap and GIDMap translate the owners that references name.
	UID    uint32  `json:"uid"`
	GID    uint32  `json:"gid"`
	UIDMap []IDMap `json:"uid_map,omitempty"`
	GIDMap []IDMap `json:"gid_map,omitempty"`
}

// Reference is one environment variable that holds a reference.
type Reference struct {
	Variable string `json:"variable"`
	Ref      string `json:"ref"`
	// Given says that the targets of dso.yaml name it, and not the specification.
	Given bool `json:"given,omitempty"`
}

// Started is what dso-runtime finds of a container's start at an exec, without the
// agent.
type Started struct {
	Values map[string][]byte `json:"values"` // by reference
	// Given are the references that the container's specification does not have.
	Given []Reference `json:"given,omitempty"`
}

// IDMap is one row of a user namespace's mapping, as in the OCI specification.
type IDMap struct {
	ContainerID uint32 `json:"containerID"`
	HostID      uint32 `json:"hostID"`
	Size        uint32 `json:"size"`
}

// HostID translates an id of a user namespace to the host's; without a mapping
// they are the same.
func HostID(id uint32, mapping []IDMap) uint32 {
	for _, m := range mapping {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID
		}
	}
	return id
}

// DeliverResponse answers a [DeliverRequest]: all values, or an error.
type DeliverResponse struct {
	// Env holds the new value of each variable.
	Env map[string][]byte `json:"env,omitempty"`
	// FilesDir is the host directory to mount at [FilesTarget]; empty when no
	// reference asks for a file.
	FilesDir string `json:"files_dir,omitempty"`
	// Mounts are files that are seen elsewhere too: by their path in the container, the
	// file of the host.
	Mounts map[string]string `json:"mounts,omitempty"`
	// Error says in one line which reference could not be resolved and why.
	Error string `json:"error,omitempty"`
}

// maxMessage bounds one message, in bytes: far above what fits in an environment.
const maxMessage = 64 << 20

// Write sends one message.
func Write(w io.Writer, message any) error {
	if err := json.NewEncoder(w).Encode(message); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// Read receives one message.
func Read(r io.Reader, message any) error {
	if err := json.NewDecoder(io.LimitReader(r, maxMessage)).Decode(message); err != nil {
		return fmt.Errorf("receive message: %w", err)
	}
	return nil
}
