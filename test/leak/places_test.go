package leak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"

	"github.com/docker-secret-operator/dso/test/lab"
	"github.com/docker-secret-operator/dso/test/search"
)

// place is where a value may not be. plant puts a text there, to see that look
// would find it; it returns what takes it away again.
type place struct {
	name  string
	look  func(needles []search.Needle) []string
	plant func(t *testing.T, text string) (remove func())
}

// places lists all of them for a lab that was opened after the time.
func places(t *testing.T, l *lab.Lab, since time.Time) []place {
	t.Helper()
	docker := func(args ...string) string {
		out, err := l.Docker(context.Background(), args...)
		assert.NilError(t, err)
		return out
	}
	output := func(command string) func([]search.Needle) []string {
		return func(needles []search.Needle) []string {
			if form := search.Find([]byte(docker(strings.Fields(command)...)), needles); form != "" {
				return []string{"docker " + command + " (" + form + ")"}
			}
			return nil
		}
	}
	// each asks once for every object that a list names.
	each := func(list, command string) func([]search.Needle) []string {
		return func(needles []search.Needle) []string {
			var found []string
			for id := range strings.FieldsSeq(docker(strings.Fields(list)...)) {
				found = append(found, output(command+" "+id)(needles)...)
			}
			return found
		}
	}
	below := func(dir string, skip ...string) func([]search.Needle) []string {
		return func(needles []search.Needle) []string { return search.Below(dir, time.Time{}, needles, skip...) }
	}
	// container plants with a container that is made with these arguments.
	container := func(args func(text string) []string) func(*testing.T, string) func() {
		return func(_ *testing.T, text string) func() {
			docker(append([]string{"run", "-d", "--name", "planted"}, args(text)...)...)
			docker("wait", "planted")
			return func() { docker("rm", "-f", "planted") }
		}
	}
	configured := container(func(text string) []string { return []string{"-e", "X=" + text, "busybox:test", "true"} })
	file := func(path string) func(*testing.T, string) func() {
		return func(t *testing.T, text string) func() {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
			assert.NilError(t, err)
			info, err := f.Stat()
			assert.NilError(t, err)
			_, err = f.WriteString("{\"planted\": \"" + text + "\"}\n")
			assert.NilError(t, err)
			return func() {
				assert.NilError(t, f.Truncate(info.Size()))
				assert.NilError(t, f.Close())
				if info.Size() == 0 {
					assert.NilError(t, os.Remove(path))
				}
			}
		}
	}
	committed := func(t *testing.T, text string) func() {
		remove := configured(t, text)
		docker("commit", "--change", "LABEL x=y", "planted", "planted:image")
		return func() { docker("rmi", "planted:image"); remove() }
	}
	return []place{
		{"containers", each("ps -aq --no-trunc", "inspect"), configured},
		{"images", each("images -aq --no-trunc", "inspect"), committed},
		{"history of images", each("images -aq --no-trunc", "history --no-trunc"), func(_ *testing.T, text string) func() {
			docker("run", "--name", "planted", "busybox:test", "true")
			docker("commit", "--change", `LABEL x="`+strings.Trim(escapeLabel(text), `"`)+`"`, "-m", text, "planted", "planted:image")
			return func() { docker("rmi", "planted:image"); docker("rm", "planted") }
		}},
		{"saved images", each("images -q --no-trunc", "save"), committed},
		{"file systems of containers", each("ps -aq --no-trunc", "export"), container(func(text string) []string {
			return []string{"busybox:test", "sh", "-c", "echo '" + text + "' > /planted"}
		})},
		{"processes of containers as docker shows them", each("ps -q --no-trunc", "top"), func(t *testing.T, text string) func() {
			docker("run", "-d", "--name", "planted", "busybox:test", "sh", "-c", "sleep 600; : '"+text+"'")
			// For a moment after a start, the process is still runc.
			poll.WaitOn(t, func(poll.LogT) poll.Result {
				if !strings.Contains(docker("top", "planted"), "sleep 600") {
					return poll.Continue("the container does not sleep yet")
				}
				return poll.Success()
			})
			return func() { docker("rm", "-f", "planted") }
		}},
		{"logs of containers", each("ps -aq --no-trunc", "logs"), container(func(text string) []string {
			return []string{"busybox:test", "echo", text}
		})},
		{"events", func(needles []search.Needle) []string {
			return output("events --since " + since.Format(time.RFC3339Nano) + " --until " + time.Now().Format(time.RFC3339Nano))(needles)
		}, container(func(text string) []string { return []string{"--label", "x=" + text, "busybox:test", "true"} })},
		{"the engine's data", below(filepath.Join(l.Engine.Dir(), "data")), configured},
		{"the engine's state", below(filepath.Join(l.Engine.Dir(), "exec")), file(filepath.Join(l.Engine.Dir(), "exec/planted"))},
		{"the engine's log", below(l.LogFile()), file(l.LogFile())},
		{"the engine's settings", below(l.DaemonConfigFile()), file(l.DaemonConfigFile())},
		{"the agent's state", below(l.HostPath("/var/lib/dso")), file(l.HostPath("/var/lib/dso/state/planted"))},
		{"the agent's log", below(l.AgentLog()), file(l.AgentLog())},
		{"the vault", below(filepath.Join(l.Engine.Dir(), "home/.dso")), file(filepath.Join(l.Engine.Dir(), "home/.dso/planted"))},
		{"the user's home", below(filepath.Join(l.Engine.Dir(), "home")), file(filepath.Join(l.Engine.Dir(), "home/planted"))},
		{"/etc", below(filepath.Join(l.Engine.Dir(), "etc")), file(l.HostPath("/etc/dso/planted"))},
		{"/run but for the private tmpfs", below(l.HostPath("/run"), l.HostPath("/run/dso/private")), file(l.HostPath("/run/dso/planted"))},
		{"the records on the private tmpfs", below(l.HostPath("/run/dso/private/delivered")), file(l.HostPath("/run/dso/private/delivered/planted"))},
		{"bundles that a start or an exec left", func(needles []search.Needle) []string {
			return leftBundles(l.HostPath("/run/dso/private/bundles"), needles)
		}, file(l.HostPath("/run/dso/private/bundles/planted"))},
		{"DSO's model file", below(filepath.Join(l.Dir, "shop/.dso")), file(filepath.Join(l.Dir, "shop/.dso/compose.yaml"))},
		{"the project", below(filepath.Join(l.Dir, "shop")), file(filepath.Join(l.Dir, "shop/planted"))},
		{"temporary files", func(needles []search.Needle) []string {
			return search.Below(os.TempDir(), since, needles, l.Dir, l.Engine.Dir())
		}, func(t *testing.T, text string) func() {
			dir, err := os.MkdirTemp("", "dso-leak-")
			assert.NilError(t, err)
			_ = file(filepath.Join(dir, "planted"))(t, text)
			return func() { assert.NilError(t, os.RemoveAll(dir)) }
		}},
		{"logs of the machine", func(needles []search.Needle) []string { return search.Below("/var/log", since, needles) }, file("/var/log/dso-leak-planted")},
		{"arguments of processes", findInProcesses, process(func(text string) *exec.Cmd { return exec.Command("sh", "-c", "sleep 600; : '"+text+"'") })},
		{"environments of processes", findInProcesses, process(func(text string) *exec.Cmd {
			cmd := exec.Command("sleep", "600")
			cmd.Env = []string{"X=" + text}
			return cmd
		})},
	}
}

// escapeLabel makes a text fit for a quoted word of a Dockerfile.
func escapeLabel(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(text)
}

func process(of func(text string) *exec.Cmd) func(*testing.T, string) func() {
	return func(t *testing.T, text string) func() {
		cmd := of(text)
		assert.NilError(t, cmd.Start())
		// Start returns when execve has closed the descriptors; the kernel sets the
		// bounds of arguments and environment a moment later, these last.
		environ := fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid)
		poll.WaitOn(t, func(poll.LogT) poll.Result {
			set, err := os.ReadFile(environ)
			switch {
			case err != nil:
				return poll.Error(err)
			case len(set) == 0:
				return poll.Continue("%s is empty", environ)
			}
			return poll.Success()
		}, poll.WithDelay(time.Millisecond))
		return func() {
			assert.NilError(t, cmd.Process.Kill())
			_ = cmd.Wait()
		}
	}
}

// leftBundles looks in what makers that are gone left. A start or an exec, and a
// health check is one, holds the lock of its bundle until it has removed it.
func leftBundles(bundles string, needles []search.Needle) []string {
	var found []string
	for _, path := range search.Below(bundles, time.Time{}, needles) {
		if bundle := bundleName.FindString(path); bundle == "" || !inUse(bundle) {
			found = append(found, path)
		}
	}
	return found
}

var bundleName = regexp.MustCompile(`^/.*/b-\d+`)

// inUse says whether a bundle is locked, or gone since it was seen.
func inUse(bundle string) bool {
	lock, err := os.Open(bundle)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer func() { _ = lock.Close() }()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return true
	}
	_, err = os.Stat(bundle)
	return errors.Is(err, os.ErrNotExist)
}
