package host

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/doctor"
)

// trialWait bounds the trial: a rotation of a container that is ready at once.
const trialWait = 2 * time.Minute

// TrialCommand is what the command line runs as in the container of a trial: it holds
// its place until it is told to stop. With "check" after it, it says whether its secret
// reached it.
const TrialCommand = "doctor-trial"

// TrialVariable is the variable that holds the secret of a trial.
const TrialVariable = "DSO_DOCTOR_TRIAL"

// Trial makes a container of its own with a secret of its own, changes the secret, and
// waits until the container was changed over. Nothing of it is left.
func (h Host) Trial(ctx context.Context) (result doctor.Result) {
	h = h.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, trialWait)
	defer cancel()
	result = doctor.Result{
		ID: doctor.TestID, Category: "rotation", Severity: "critical", Name: "One real rotation",
		Description: "A container of its own gets a secret of its own, and is changed over to a new version of it.", Status: doctor.Pass, Recovery: []string{},
	}
	began := time.Now()
	t := trial{Host: h, name: "dso-doctor-" + random(4)}
	err := t.prepare(ctx)
	var done []wire.RotateResult
	if err == nil {
		done, err = t.rotate(ctx)
	}
	cleanup, cancelCleanup := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancelCleanup()
	if leftErr := t.remove(cleanup); leftErr != nil {
		err = errors.Join(err, fmt.Errorf("clean up: %w", leftErr))
	}
	if err != nil {
		result.Status, result.Detail = doctor.Fail, err.Error()
		result.RootCause = "one of the steps that every container goes through failed"
		result.Recovery = []string{"the other checks say more", "docker dso watch --no-follow shows what the agent did"}
		return result
	}
	result.Detail = fmt.Sprintf("changed over by %s, in %s with all that belongs to it", done[0].Strategy, time.Since(began).Round(100*time.Millisecond))
	return result
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, since Go 1.24
	return hex.EncodeToString(b)
}

// trial is one container with its image and its secret, all of one name.
type trial struct {
	Host
	name string
}

func (t trial) secret() string { return "dso-doctor/" + t.name }

func (t trial) docker(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, t.Docker, args...)
	cmd.Stdin = stdin
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %s", args[0], strings.TrimSpace(said.String()+" "+err.Error()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (t trial) set(ctx context.Context) (resp wire.VersionResponse, err error) {
	return resp, t.Agent.Call(ctx, "PUT", "/v1/secret", wire.SetRequest{Name: t.secret(), Value: []byte(random(16))}, &resp)
}

func (t trial) prepare(ctx context.Context) error {
	if _, err := t.set(ctx); err != nil {
		return fmt.Errorf("store a secret: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	archive, archived := io.Pipe()
	go func() { archived.CloseWithError(pack(archived, self)) }()
	defer func() { _ = archive.Close() }()
	if _, err := t.docker(ctx, archive, "import", "--change", `ENTRYPOINT ["/dso", "`+TrialCommand+`"]`,
		"--change", `HEALTHCHECK --interval=1s --timeout=5s CMD ["/dso", "`+TrialCommand+`", "check"]`, "-", t.name); err != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	if _, err := t.docker(ctx, nil, "run", "-d", "--name", t.name, "--runtime", "dso", "--label", "dso.monitor=100ms", "--label", "dso.doctor="+t.name,
		"--network", "none", "--read-only", "-e", TrialVariable+"=dso://"+t.secret(), t.name); err != nil {
		return fmt.Errorf("start a container: %w", err)
	}
	return t.healthy(ctx)
}

// pack writes the archive of an image that has one file.
func pack(w io.Writer, program string) error {
	f, err := os.Open(program)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: "dso", Mode: 0o755, Size: st.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(out, f); err != nil {
		return err
	}
	return out.Close()
}

func (t trial) healthy(ctx context.Context) error {
	for {
		status, err := t.docker(ctx, nil, "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", t.name)
		switch {
		case err != nil:
			return err
		case status == "running healthy":
			return nil
		case strings.HasPrefix(status, "exited"), strings.HasSuffix(status, "unhealthy"):
			return fmt.Errorf("the container is %s: its secret did not reach it", status)
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the container is %s: %w", status, ctx.Err())
		}
	}
}

func (t trial) rotate(ctx context.Context) ([]wire.RotateResult, error) {
	if _, err := t.set(ctx); err != nil {
		return nil, fmt.Errorf("store a new version: %w", err)
	}
	done, err := t.Agent.Rotate(ctx, wire.RotateRequest{Secret: t.secret(), Cause: "docker dso doctor --test"}, func(wire.RotateStep) {})
	switch {
	case err != nil:
		return nil, fmt.Errorf("rotate: %w", err)
	case len(done) != 1:
		return nil, fmt.Errorf("rotate: the agent knows %d containers that use the secret, not one", len(done))
	case done[0].Error != "":
		return nil, fmt.Errorf("rotate: %s: %s", done[0].Outcome, done[0].Error)
	}
	var d wire.ContainerDetail
	if err := t.Agent.Call(ctx, "POST", "/v1/container", wire.ContainerRequest{Container: t.name}, &d); err != nil {
		return nil, err
	}
	if !d.UpToDate || d.Health != "healthy" && d.Health != "starting" {
		return nil, fmt.Errorf("after the rotation the container is %s and has %v, not %v", d.Health, d.Has, d.Wants)
	}
	return done, nil
}

// remove removes what is there, however far it came.
func (t trial) remove(ctx context.Context) error {
	ids, err := t.docker(ctx, nil, "ps", "-aq", "--filter", "label=dso.doctor="+t.name)
	if err == nil && ids != "" {
		_, err = t.docker(ctx, nil, append([]string{"rm", "-f", "-v"}, strings.Fields(ids)...)...)
	}
	if images, imageErr := t.docker(ctx, nil, "images", "-q", t.name); imageErr == nil && images != "" {
		_, imageErr = t.docker(ctx, nil, "rmi", "-f", t.name)
		err = errors.Join(err, imageErr)
	}
	var infos []wire.SecretInfo
	if listErr := t.Agent.Call(ctx, "GET", "/v1/secrets", nil, &infos); listErr == nil {
		for _, i := range infos {
			if i.Name == t.secret() {
				err = errors.Join(err, t.Agent.Call(ctx, "POST", "/v1/secret/delete", wire.NameRequest{Name: t.secret(), Force: true}, nil))
			}
		}
	}
	return err
}
