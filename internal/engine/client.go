package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/docker-secret-operator/dso/internal/target"
)

// Client talks to one engine. It is safe for concurrent use.
type Client struct {
	api       *client.Client
	opts      []client.Opt
	mayChange func() error // nil: it may
	// Targets, when set, says what a container is given beside its specification.
	Targets func(target.Container) target.Given
}

// Open returns a client for the engine at host ("unix:///var/run/docker.sock");
// an empty host means DOCKER_HOST or the default socket. It does not connect.
//
// mayChange is asked before every request that may change something in the engine;
// its error is that request's. It may be nil.
func Open(host string, mayChange func() error) (*Client, error) {
	opts := []client.Opt{client.FromEnv}
	if mayChange != nil {
		opts = append(opts, client.WithHTTPRequestHook(guard(mayChange)))
	}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	api, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("open engine: %w", err)
	}
	return &Client{api: api, opts: opts, mayChange: mayChange}, nil
}

// Close drops idle connections.
func (c *Client) Close() error { return c.api.Close() }

// Ping succeeds when the engine answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.api.Ping(ctx, client.PingOptions{})
	return wrap("ping engine", "", err)
}

// Accepts succeeds when the engine takes new connections; otherwise the error is
// [Unavailable]. One that is told to end closes its door first, and answers on the
// connections that it has while it stops its containers: what is started then is left
// half made. Where systemd holds the socket, a new connection gets no answer.
func (c *Client) Accepts(ctx context.Context) error {
	fresh, err := client.New(c.opts...)
	if err != nil {
		return wrap("open engine", "", err)
	}
	defer func() { _ = fresh.Close() }()
	asking, cancel := context.WithTimeout(ctx, acceptDeadline)
	defer cancel()
	_, err = fresh.Ping(asking, client.PingOptions{})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("it takes no new connections: %w: %w", errdefs.ErrUnavailable, err)
	}
	return wrap("ping engine", "", err)
}

// acceptDeadline is how long a new connection may take to be answered.
const acceptDeadline = 5 * time.Second

// Runtimes returns the names of the OCI runtimes that the engine knows.
func (c *Client) Runtimes(ctx context.Context) ([]string, error) {
	info, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, wrap("ask engine", "", err)
	}
	names := make([]string, 0, len(info.Info.Runtimes))
	for name := range info.Info.Runtimes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// Inspect returns one container by id or name. A missing one is errdefs.IsNotFound.
func (c *Client) Inspect(ctx context.Context, id string) (Container, error) {
	res, err := c.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return Container{}, wrap("inspect", id, err)
	}
	m := fromInspect(res.Container)
	if c.Targets != nil {
		m.Given = c.Targets(target.Container{Name: m.Name, Labels: m.Labels()})
	}
	return m, nil
}

// Inspector looks at one container.
type Inspector interface {
	Inspect(ctx context.Context, id string) (Container, error)
}

// atOnce is how many containers are looked at at the same time.
const atOnce = 8

// InspectAll looks at those of the containers that are still there, and returns them in
// the same order.
func InspectAll(ctx context.Context, e Inspector, ids []string) ([]Container, error) {
	found := make([]Container, len(ids))
	looks, ctx := errgroup.WithContext(ctx)
	looks.SetLimit(atOnce)
	for i, id := range ids {
		looks.Go(func() (err error) {
			if found[i], err = e.Inspect(ctx, id); errdefs.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err := looks.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(c Container) bool { return c.ID == "" }), nil
}

// List returns the ids of all containers that carry every one of the labels
// ("key" or "key=value"), running or not, oldest first.
func (c *Client) List(ctx context.Context, labels ...string) ([]string, error) {
	opts := client.ContainerListOptions{All: true}
	if len(labels) > 0 {
		opts.Filters = make(client.Filters).Add("label", labels...)
	}
	res, err := c.api.ContainerList(ctx, opts)
	if err != nil {
		return nil, wrap("list containers", "", err)
	}
	slices.SortFunc(res.Items, func(a, b container.Summary) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.ID, b.ID))
	})
	ids := make([]string, len(res.Items))
	for i, item := range res.Items {
		ids[i] = item.ID
	}
	return ids, nil
}

// InNetworkOf returns the ids of the containers that were started in the network of the
// container with id, and have not ended.
func (c *Client) InNetworkOf(ctx context.Context, id string) ([]string, error) {
	res, err := c.api.ContainerList(ctx, client.ContainerListOptions{})
	if err != nil {
		return nil, wrap("list containers", "", err)
	}
	var ids []string
	for _, item := range res.Items {
		if mode := container.NetworkMode(item.HostConfig.NetworkMode); mode.IsContainer() && mode.ConnectedContainer() == id {
			ids = append(ids, item.ID)
		}
	}
	return ids, nil
}

// Create makes a container. The specification's first network (the one of its
// network mode) is given at creation and the others are connected before
// anything starts, because API 1.41 refuses more than one at creation.
func (c *Client) Create(ctx context.Context, name string, spec Spec) (string, error) {
	primary := primaryNetwork(spec)
	opts := client.ContainerCreateOptions{Name: name, Config: spec.Config, HostConfig: spec.HostConfig}
	if ep, ok := spec.Networks[primary]; ok {
		opts.NetworkingConfig = &network.NetworkingConfig{
			EndpointsConfig: map[string]*network.EndpointSettings{primary: ep},
		}
	}
	res, err := c.api.ContainerCreate(ctx, opts)
	if err != nil {
		return "", wrap("create", name, err)
	}
	return res.ID, c.ConnectAll(ctx, res.ID, spec)
}

// ConnectAll connects a container to the networks of its specification that it
// is not on yet, the first one excepted.
func (c *Client) ConnectAll(ctx context.Context, id string, spec Spec) error {
	primary := primaryNetwork(spec)
	got, err := c.Inspect(ctx, id)
	if err != nil {
		return err
	}
	for name, ep := range spec.Networks {
		if _, on := got.Networks[name]; on || name == primary {
			continue
		}
		if err := c.Connect(ctx, id, name, ep); err != nil {
			return err
		}
	}
	return nil
}

func primaryNetwork(spec Spec) string {
	if spec.HostConfig == nil {
		return ""
	}
	mode := string(spec.HostConfig.NetworkMode)
	if _, ok := spec.Networks[mode]; ok {
		return mode
	}
	if mode == "default" || mode == "" {
		return "bridge"
	}
	return mode
}

// Start starts a container; one that runs already is a success.
func (c *Client) Start(ctx context.Context, id string) error {
	err := c.started(ctx, id, func() error {
		_, err := c.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
		return err
	})
	return wrap("start", id, ignoreNotModified(err))
}

// Stop ends a container with its own stop signal and timeout; one that does not
// run, or does not exist, is a success.
func (c *Client) Stop(ctx context.Context, id string) error {
	_, err := c.api.ContainerStop(ctx, id, client.ContainerStopOptions{})
	return wrap("stop", id, ignoreGone(ignoreNotModified(err)))
}

// Restart stops and starts a container with its own stop signal and timeout.
func (c *Client) Restart(ctx context.Context, id string) error {
	err := c.started(ctx, id, func() error {
		_, err := c.api.ContainerRestart(ctx, id, client.ContainerRestartOptions{})
		return err
	})
	return wrap("restart", id, err)
}

// Remove deletes a container, killing it if it runs, and keeps its volumes. A
// missing one is a success.
func (c *Client) Remove(ctx context.Context, id string) error {
	_, err := c.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	if errdefs.IsConflict(err) { // somebody else is removing it
		return c.waitGone(ctx, id)
	}
	return wrap("remove", id, ignoreGone(err))
}

func (c *Client) waitGone(ctx context.Context, id string) error {
	res := c.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	select {
	case <-res.Result:
		return nil
	case err := <-res.Error:
		return wrap("remove", id, ignoreGone(err))
	}
}

// Rename gives a container another name.
func (c *Client) Rename(ctx context.Context, id, name string) error {
	_, err := c.api.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: name})
	return wrap("rename", id, err)
}

// SetRestartPolicy changes what the engine does when the container ends.
func (c *Client) SetRestartPolicy(ctx context.Context, id string, policy container.RestartPolicy) error {
	_, err := c.api.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{RestartPolicy: &policy})
	return wrap("update restart policy of", id, err)
}

// Connect puts a container on a network.
func (c *Client) Connect(ctx context.Context, id, networkName string, ep *network.EndpointSettings) error {
	_, err := c.api.NetworkConnect(ctx, networkName, client.NetworkConnectOptions{Container: id, EndpointConfig: ep})
	return wrap("connect "+networkName+" to", id, err)
}

// Disconnect takes a container off a network.
func (c *Client) Disconnect(ctx context.Context, id, networkName string) error {
	_, err := c.api.NetworkDisconnect(ctx, networkName, client.NetworkDisconnectOptions{Container: id})
	return wrap("disconnect "+networkName+" from", id, err)
}

// ImageID returns the id that an image name means now. A name that means
// nothing is errdefs.IsNotFound.
func (c *Client) ImageID(ctx context.Context, name string) (string, error) {
	res, err := c.api.ImageInspect(ctx, name)
	if err != nil {
		return "", wrap("inspect image", name, err)
	}
	return res.ID, nil
}

// LoadImage loads an image archive.
func (c *Client) LoadImage(ctx context.Context, archive io.Reader) error {
	res, err := c.api.ImageLoad(ctx, archive)
	if err != nil {
		return wrap("load image", "", err)
	}
	_, err = io.Copy(io.Discard, res)
	return errors.Join(err, res.Close())
}

// ActionNetworkConnect is the action of an [Event] that says a container was put
// on a network; the engine reports it as an event of the network.
const ActionNetworkConnect = "network-connect"

// Events streams container events until ctx ends or the engine goes away. The
// second channel carries the one error that ended the stream. What happens after
// Events returns is in the stream, so list the containers then, never before.
//
// An engine answers a moment before the subscription stands, and therefore the
// stream begins with what happened since the call. Some of it is older than the
// list.
func (c *Client) Events(ctx context.Context) (<-chan Event, <-chan error) {
	res := c.api.Events(ctx, client.EventsListOptions{
		Since:   timestamp(time.Now()),
		Filters: make(client.Filters).Add("type", "container", "network"),
	})
	out := make(chan Event)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-res.Messages:
				ev, ok := fromMessage(m)
				if !ok {
					continue
				}
				select {
				case out <- ev:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, res.Err
}

func fromMessage(m events.Message) (Event, bool) {
	switch {
	case m.Type == events.ContainerEventType:
		return Event{Action: string(m.Action), ID: m.Actor.ID, Labels: m.Actor.Attributes}, true
	case m.Type == events.NetworkEventType && m.Action == events.ActionConnect:
		return Event{Action: ActionNetworkConnect, ID: m.Actor.Attributes["container"]}, true
	}
	return Event{}, false
}

func fromInspect(r container.InspectResponse) Container {
	c := Container{
		ID:       r.ID,
		Name:     strings.TrimPrefix(r.Name, "/"),
		ImageID:  r.Image,
		Spec:     Spec{Config: r.Config, HostConfig: r.HostConfig, Networks: map[string]*network.EndpointSettings{}},
		Networks: map[string]Endpoint{},
	}
	if r.State != nil {
		c.State = State{
			Status: r.State.Status, Pid: r.State.Pid, ExitCode: r.State.ExitCode,
			Error: r.State.Error, RestartCount: r.RestartCount,
		}
		c.State.StartedAt, _ = time.Parse(time.RFC3339Nano, r.State.StartedAt)
		if h := r.State.Health; h != nil && h.Status != container.NoHealthcheck {
			c.State.Health = h.Status
		}
	}
	for _, m := range r.Mounts {
		c.Mounts = append(c.Mounts, Mount{
			Type: string(m.Type), Name: m.Name, Source: m.Source, Destination: m.Destination, Writable: m.RW,
		})
	}
	if r.NetworkSettings != nil {
		c.Published = published(r.NetworkSettings.Ports)
		for name, ep := range r.NetworkSettings.Networks {
			c.Spec.Networks[name] = ep
			c.Networks[name] = Endpoint{NetworkID: ep.NetworkID, Addresses: endpointAddrs(ep), Aliases: ep.Aliases}
		}
	}
	return c
}

func endpointAddrs(ep *network.EndpointSettings) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{ep.IPAddress, ep.GlobalIPv6Address}, func(a netip.Addr) bool { return !a.IsValid() })
}

func published(ports network.PortMap) []Published {
	var all []Published
	for inside, bindings := range ports {
		for _, b := range bindings {
			number, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil {
				continue // the engine has not chosen one
			}
			all = append(all, Published{Host: b.HostIP, Number: uint16(number), Proto: string(inside.Proto()), Inside: inside.Num()})
		}
	}
	slices.SortFunc(all, func(a, b Published) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Proto, b.Proto), a.Host.Compare(b.Host), cmp.Compare(a.Inside, b.Inside))
	})
	return all
}

func wrap(op, object string, err error) error {
	if err == nil {
		return nil
	}
	if object == "" {
		return fmt.Errorf("%s: %w", op, err)
	}
	return fmt.Errorf("%s %s: %w", op, object, err)
}

func ignoreNotModified(err error) error {
	if errdefs.IsNotModified(err) {
		return nil
	}
	return err
}

func ignoreGone(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
