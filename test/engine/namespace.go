package testengine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The addresses are the same for every engine: each has namespaces of its own.
const (
	hostAddress    = "10.231.0.1"
	clientAddress  = "10.231.0.2"
	hostAddress6   = "fd00:d50::1"
	clientAddress6 = "fd00:d50::2"
)

// makeNetwork makes the two network namespaces and the cable between them.
func (e *Engine) makeNetwork(ctx context.Context) error {
	commands := []string{
		"netns add " + e.name,
		"netns add " + e.client,
		"link add eth0 netns " + e.name + " type veth peer name eth0 netns " + e.client,
	}
	for _, side := range []struct{ ns, v4, v6 string }{
		{e.name, hostAddress, hostAddress6},
		{e.client, clientAddress, clientAddress6},
	} {
		commands = append(commands,
			"-n "+side.ns+" addr add "+side.v4+"/24 dev eth0",
			"-n "+side.ns+" -6 addr add "+side.v6+"/64 dev eth0 nodad",
			"-n "+side.ns+" link set lo up",
			"-n "+side.ns+" link set eth0 up")
	}
	for _, c := range commands {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			// A machine without IPv6 is fine for everything but IPv6.
			if strings.Contains(c, " -6 ") {
				continue
			}
			return fmt.Errorf("ip %s: %w: %s", c, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// holderScript lays out the mount namespace, reports, and then waits. A fresh
// /run keeps the engine and containerd away from the sockets and state of the
// machine's own; the overlay leaves /etc readable and its changes private.
// Copying is the fallback where the temporary directory cannot be an upper one.
const holderScript = `set -e
dir=$1
hostname "$2"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$dir/etc,workdir=$dir/etc.work" /etc 2>/dev/null || {
	cp -a /etc/. "$dir/etc/"
	mount --bind "$dir/etc" /etc
}
mount --bind "$dir/varlib" /var/lib
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /etc/dso /run/dso /run/lock
echo "127.0.0.1 $2" >> /etc/hosts
echo ready
exec sleep infinity
`

// hold starts the process that the mount and UTS namespace belong to.
func (e *Engine) hold(ctx context.Context) error {
	cmd := exec.Command("nsenter", "--net="+netnsPath(e.name),
		"unshare", "--mount", "--uts", "--propagation", "private",
		"sh", "-c", holderScript, "sh", e.dir, e.name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("hold namespaces: %w", err)
	}
	cmd.Stderr = cmd.Stdout
	if e.holder, err = startProcess(cmd); err != nil {
		return fmt.Errorf("hold namespaces: %w", err)
	}
	ready := make(chan error, 1)
	go func() { ready <- awaitReady(out) }()
	select {
	case err = <-ready:
	case <-ctx.Done():
		e.holder.kill()
		// The reader has to be gone before its pipe is closed.
		err = errors.Join(ctx.Err(), <-ready)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("hold namespaces: %w", err)
	}
	return nil
}

// awaitReady reads the holder's output up to the line that says it is done.
func awaitReady(out io.Reader) error {
	var said []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return nil
		}
		said = append(said, lines.Text())
	}
	return fmt.Errorf("the holder ended: %s", strings.Join(said, "; "))
}

// chooseStorage probes overlay2 by mounting one on the data root, because the
// engine's own choice falls back to vfs before it thinks of fuse-overlayfs.
func (e *Engine) chooseStorage(ctx context.Context) error {
	if e.opts.StorageDriver != "" {
		e.driver = e.opts.StorageDriver
		return nil
	}
	const probe = `p=$1/data/probe; mkdir -p $p/l $p/u $p/w $p/m
mount -t overlay overlay -o lowerdir=$p/l,upperdir=$p/u,workdir=$p/w $p/m && umount $p/m; rc=$?
rm -rf $p; exit $rc`
	e.driver = "vfs"
	if e.Command(ctx, "sh", "-c", probe, "sh", e.dir).Run() == nil {
		e.driver = "overlay2"
	} else if _, err := exec.LookPath("fuse-overlayfs"); err == nil && exists("/dev/fuse") {
		e.driver = "fuse-overlayfs"
	}
	return ctx.Err()
}

func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

// Command is a command to be run inside the engine's network, mount and UTS
// namespace, with the options' programs and plugins and a home of its own.
// Plain `docker` talks to the private engine. The working directory is /,
// whatever cmd.Dir says; see [Engine.CommandIn].
func (e *Engine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return e.CommandIn(ctx, "/", name, args...)
}

// CommandIn is [Engine.Command] in a working directory, an absolute path.
func (e *Engine) CommandIn(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	pid := fmt.Sprint(e.holder.pid())
	// Entering a mount namespace moves the working directory to its root, and
	// PATH is to be searched inside: env does both, and is executed there.
	nsenter := []string{"--target", pid, "--mount", "--net", "--uts", "--", "env", "--chdir=" + dir, name}
	cmd := exec.CommandContext(ctx, "nsenter", append(nsenter, args...)...)
	cmd.Env = e.environment()
	cmd.WaitDelay = waitDelay
	return cmd
}

// ClientCommand is a command to be run on "another host": in the clients'
// network namespace and the machine's own file system.
func (e *Engine) ClientCommand(ctx context.Context, name string, args ...string) *exec.Cmd {
	nsenter := []string{"--net=" + netnsPath(e.client), "--", "env", name}
	cmd := exec.CommandContext(ctx, "nsenter", append(nsenter, args...)...)
	cmd.Env = e.environment()
	cmd.WaitDelay = waitDelay
	return cmd
}

func (e *Engine) environment() []string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if bin, err := filepath.Abs(e.opts.BinDir); err == nil && e.opts.BinDir != "" {
		path = bin + ":" + path
	}
	home := filepath.Join(e.dir, "home")
	env := []string{
		"PATH=" + path, "HOME=" + home, "DOCKER_CONFIG=" + filepath.Join(home, ".docker"),
		"LANG=C.UTF-8", "USER=root",
	}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		env = append(env, "GOCOVERDIR="+dir)
	}
	return env
}

// Run runs a command inside and returns its output, both streams; an error
// carries the output too.
func (e *Engine) Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := e.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Docker runs the docker CLI inside and returns its output without the space
// around it.
func (e *Engine) Docker(ctx context.Context, args ...string) (string, error) {
	out, err := e.Run(ctx, "docker", args...)
	return strings.TrimSpace(out), err
}
