package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/version"
)

func (a *app) supportBundleCommand() *cobra.Command {
	var output string
	cmd := a.jsonFlag(&cobra.Command{
		Use: "support-bundle", Short: "Pack what somebody who helps needs to know, without any value", Args: noArgs,
		Long: `Pack what somebody who helps needs to know into one archive: the report of doctor, the
status, rotations, locks and events, the configuration without credentials, the
agent's log of the journal, the metrics, and the newest records of the audit log.

It holds no value of a secret and no credential. It does hold names: of secrets, containers,
hosts and users. Look at it before you give it away. As root it holds more.`,
		Example: "  docker dso support-bundle\n  docker dso support-bundle --output /root/dso.tar.gz",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output == "" {
				output = "dso-support-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
			}
			return a.supportBundle(cmd.Context(), output)
		},
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `file` to write; it must not be there yet")
	return cmd
}

// bundleReport is the JSON of docker dso support-bundle.
type bundleReport struct {
	File    string   `json:"file"`
	Missing []string `json:"missing"` // what could not be packed, and why
}

// part is one file of a support bundle.
type part struct {
	name string
	make func(context.Context) ([]byte, error)
}

func (a *app) parts() []part {
	call := func(path string, into any) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) {
			if err := a.agent().Call(ctx, "GET", path, nil, into); err != nil {
				return nil, err
			}
			return json.MarshalIndent(into, "", "  ")
		}
	}
	return []part{
		{"version.txt", func(context.Context) ([]byte, error) { return []byte(version.Version + "\n"), nil }},
		{"doctor.json", func(ctx context.Context) ([]byte, error) {
			return json.MarshalIndent(doctor.Run(a.host().Gather(ctx)), "", "  ")
		}},
		{"status.json", call("/v1/status", new(wire.Status))},
		{"rotations.json", call("/v1/rotations", new([]wire.Rotation))},
		{"locks.json", call("/v1/locks", new([]wire.Lock))},
		{"leftovers.json", call("/v1/legacy", new([]wire.Leftover))},
		{"seal.json", call("/v1/seal", new(wire.Seal))},
		{"events.jsonl", func(ctx context.Context) ([]byte, error) {
			var out bytes.Buffer
			err := a.agent().Events(ctx, 0, false, func(e wire.Event) { _ = json.NewEncoder(&out).Encode(e) })
			return out.Bytes(), err
		}},
		{"metrics.txt", func(ctx context.Context) ([]byte, error) { return a.agent().Metrics(ctx) }},
		{"config.yaml", func(context.Context) ([]byte, error) {
			c, err := a.loadConfig()
			if errors.Is(err, config.ErrNone) {
				c, err = config.Default(), nil
			}
			if err != nil {
				return nil, err
			}
			return c.Show()
		}},
		{"audit.jsonl", func(context.Context) ([]byte, error) { return newestRecords(auditDir, 1000) }},
		{"agent.log", command("journalctl", "-u", "dso-agent", "-n", "1000", "-o", "cat", "--no-pager")},
		{"units.txt", command("systemctl", "list-units", "dso*", "docker*", "--all", "--no-pager")},
		{"docker-version.txt", command("docker", "version")},
		{"containers.txt", command("docker", "ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.Status}}")},
		{"kernel.txt", command("uname", "-a")},
		{"os-release", func(context.Context) ([]byte, error) { return os.ReadFile("/etc/os-release") }},
	}
}

// newestRecords are the last records of the audit log.
func newestRecords(dir string, n int) ([]byte, error) {
	var rows []audit.Record
	err := audit.All(dir, func(r audit.Record) {
		if rows = append(rows, r); len(rows) > 2*n {
			rows = slices.Clone(rows[len(rows)-n:])
		}
	})
	var out bytes.Buffer
	for _, r := range rows[max(0, len(rows)-n):] {
		_ = json.NewEncoder(&out).Encode(r)
	}
	return out.Bytes(), err
}

// commandWait bounds a command of a bundle.
const commandWait = 20 * time.Second

func command(name string, args ...string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, commandWait)
		defer cancel()
		return exec.CommandContext(ctx, name, args...).CombinedOutput()
	}
}

// Whoever wrote an address with a password in it, it stays here.
var inURL = regexp.MustCompile(`(\w+://)[^/\s:@"]+:[^/\s@"]+@`)

// redact is the second line of defence: by rule nothing that is packed holds a
// credential.
func redact(data []byte) []byte { return inURL.ReplaceAll(data, []byte("${1}REDACTED@")) }

func (a *app) supportBundle(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return withHint(err, "--output names another file")
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	missing, err := writeBundle(ctx, f, a.parts(), time.Now())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if done, err := a.print(bundleReport{path, append([]string{}, missing...)}); done {
		return err
	}
	_, err = fmt.Fprintf(a.out, "wrote %s, mode 0600; it holds names of secrets, containers and users, and no value\n", path)
	for _, m := range missing {
		_, _ = fmt.Fprintln(a.err, "not in it:", m)
	}
	return err
}

// writeBundle packs what can be had, and returns what could not; the archive says that
// too.
func writeBundle(ctx context.Context, w io.Writer, parts []part, now time.Time) (missing []string, err error) {
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	add := func(name string, data []byte) error {
		if err := out.WriteHeader(&tar.Header{Name: "dso-support/" + name, Mode: 0o600, Size: int64(len(data)), ModTime: now}); err != nil {
			return err
		}
		_, err := out.Write(data)
		return err
	}
	for _, p := range parts {
		data, err := p.make(ctx)
		if err != nil {
			missing = append(missing, p.name+": "+err.Error())
		}
		if len(data) == 0 {
			continue
		}
		if err := add(p.name, redact(data)); err != nil {
			return missing, err
		}
	}
	var text bytes.Buffer
	for _, m := range missing {
		_, _ = fmt.Fprintln(&text, m)
	}
	return missing, errors.Join(add("missing.txt", redact(text.Bytes())), out.Close(), zip.Close())
}
