package hostsetup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/image"
)

// agentContainer is the name of the agent's container and of its image.
const agentContainer = "dso-agent"

// containerPrograms are what the agent's image holds.
var containerPrograms = []string{"dso-agent", "dso-front"}

// detectContainer sees whether the agent's container runs, and whether it is of these
// programs.
func (h *Host) detectContainer(ctx context.Context, f *Facts) error {
	var err error
	if f.Image, err = imageTag(f.Programs); err != nil {
		return err
	}
	if out, err := h.Run(ctx, "docker", "inspect", "-f", "{{.State.Status}} {{.Config.Image}}", agentContainer); err == nil {
		f.Container = strings.TrimSpace(out)
	}
	return nil
}

// imageTag names the image of the programs in a directory by what is in them.
func imageTag(dir string) (string, error) {
	sum := sha256.New()
	for _, name := range containerPrograms {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		_, err = io.Copy(sum, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", err
		}
	}
	return agentContainer + ":" + hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// container makes the agent a container. Where systemd would keep it alive, the engine
// does.
func (p *planner) container() {
	if p.f.Container == "running "+p.f.Image {
		return
	}
	p.add(Step{
		Kind: RunAgent, Name: p.f.Image, Source: p.f.Programs,
		What: "run the agent as the container " + agentContainer + ", from an image of its own programs",
	})
	p.Notes = append(p.Notes, "the agent's container has the host's process and network namespaces and the engine's socket: it is root on the host, as the service is")
}

// runOptions are the options of the agent's container: what the unit gives the service.
func runOptions() []string {
	args := []string{
		"--name", agentContainer, "--restart", "always", "--runtime", stock,
		"--pid", "host", "--network", "host", "--read-only", "--init=false",
		"--security-opt", "no-new-privileges", "--security-opt", "apparmor=unconfined",
		"--ulimit", "core=0", "--pids-limit", "512",
		"--stop-timeout", stopTimeout,
		"--cap-drop", "ALL", "--env", "HOME=/root",
		"--log-opt", "max-size=10m", "--log-opt", "max-file=3",
		"--tmpfs", "/tmp:mode=1777,noexec",
	}
	for _, c := range []string{"SYS_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "NET_ADMIN", "IPC_LOCK", "CHOWN", "DAC_OVERRIDE"} {
		args = append(args, "--cap-add", c)
	}
	for _, m := range []string{
		"/var/run/docker.sock", runDir, lockDir, stateDir, vaultDir, configDir + ":ro",
		"/etc/group:ro", "/etc/passwd:ro", "/etc/ssl/certs:ro",
	} {
		path, mode, _ := strings.Cut(m, ":")
		if mode != "" {
			mode = ":" + mode
		}
		args = append(args, "--volume", path+":"+path+mode)
	}
	return args
}

// imageDraft is the image, in the state directory, until the engine has it.
const imageDraft = ".image.tar"

// stopTimeout is how long an agent may take to end, in seconds: what is going on is parked
// at the end of its step.
const stopTimeout = "60"

// runContainer loads the image and starts the container, in the place of one that is
// there.
func (h *Host) runContainer(ctx context.Context, d Done) error {
	tmp := h.path(filepath.Join(stateDir, imageDraft))
	if err := writeImage(tmp, d.Source, d.Name); err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp) }()
	if _, err := h.Run(ctx, "docker", "load", "--input", tmp); err != nil {
		return err
	}
	return h.startContainer(ctx, d.Name)
}

// startContainer starts the container from an image that the engine has, and waits until
// the agent answers.
func (h *Host) startContainer(ctx context.Context, image string) error {
	if err := h.removeContainer(ctx); err != nil {
		return err
	}
	if _, err := h.Run(ctx, "docker", append(append([]string{"run", "--detach"}, runOptions()...), image)...); err != nil {
		return err
	}
	if h.Answers == nil {
		return nil
	}
	err := until(ctx, startTimeout, func() error { return h.Answers(ctx) })
	if err == nil {
		return nil
	}
	if log, logErr := h.Run(ctx, "docker", "logs", "--tail", "5", agentContainer); logErr == nil {
		err = fmt.Errorf("%w; its last words:\n%s", err, log)
	}
	return err
}

func writeImage(path, programs, tag string) error {
	files := map[string][]byte{}
	for _, name := range containerPrograms {
		data, err := os.ReadFile(filepath.Join(programs, name))
		if err != nil {
			return err
		}
		files[name] = data
	}
	archive, err := image.Archive(image.Image{
		Tag: tag, Files: files, Entrypoint: []string{"/dso-agent", "-in-container"}, Dirs: []string{"tmp", "run", "etc", "var"},
		// It ends an agent that hangs, as the unit's watchdog does, and has patience of its own.
		Health: &image.Health{Test: []string{"/dso-agent", "-alive"}, Interval: 15 * time.Second, Timeout: time.Minute, Retries: 1},
	})
	if err != nil {
		return err
	}
	return durable.WriteFile(path, archive, 0o600)
}

// removeContainer lets the agent end, and removes its container.
func (h *Host) removeContainer(ctx context.Context) error {
	for _, args := range [][]string{{"stop", "--time", stopTimeout}, {"rm", "--force"}} {
		if _, err := h.Run(ctx, "docker", append(args, agentContainer)...); err != nil && !strings.Contains(err.Error(), "No such container") {
			return err
		}
	}
	return nil
}

// endContainer ends the agent's container and removes its image.
func (h *Host) endContainer(ctx context.Context, d Done) error {
	if err := h.removeContainer(ctx); err != nil {
		return err
	}
	_, _ = h.Run(ctx, "docker", "rmi", d.Name) // another tag may hold it
	return nil
}
