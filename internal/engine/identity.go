package engine

import (
	"context"
	"fmt"
	"net/http"

	"github.com/moby/moby/client"
)

// Identity tells one engine from another, however it is reached.
type Identity struct {
	// ID is the engine's own. Up to 20.10 it is the host's, from
	// /etc/docker/key.json, and two engines of one host share it.
	ID string
	// DataRoot is the directory that the engine keeps its containers in.
	DataRoot string
}

func (i Identity) String() string { return fmt.Sprintf("%s at %s", i.ID, i.DataRoot) }

// Identity returns who the engine is.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	info, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Identity{}, wrap("ask engine", "", err)
	}
	return Identity{ID: info.Info.ID, DataRoot: info.Info.DockerRootDir}, nil
}

// guard lets requests that only ask pass, and others as long as mayChange has
// nothing against it. It stands below every call, those included that are yet to be
// written.
func guard(mayChange func() error) client.RequestHook {
	return func(r *http.Request) error {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return nil
		}
		return mayChange()
	}
}
