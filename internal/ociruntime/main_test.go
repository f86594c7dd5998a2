package ociruntime

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/private"
	"github.com/docker-secret-operator/dso/internal/target"
)

// The test binary is dso-runtime when this is set: the directory to mount the
// private tmpfs on, in a mount namespace of its own.
const runtimeEnv = "DSO_TEST_RUNTIME"

// knownEnv is what the container c1 was started with, as the file's content.
const knownEnv = "DSO_TEST_KNOWN"

// fakeRunc records its arguments and what it is given to read. What it finds on
// the private tmpfs is told too, because that is gone with the namespace.
const fakeRunc = `#!/bin/sh
printf '%s\n' "$@" > "$DSO_TEST_RECORD/args"
previous=
for arg; do
	case $previous in
	--bundle) cat "$arg/config.json" > "$DSO_TEST_RECORD/config"; stat -c '%a' "$arg" "$arg/config.json" > "$DSO_TEST_RECORD/modes";;
	--process) cat "$arg" > "$DSO_TEST_RECORD/process";;
	esac
	previous=$arg
done
echo "runc says"
exit "${DSO_TEST_EXIT:-0}"
`

func TestMain(m *testing.M) {
	root := os.Getenv(runtimeEnv)
	if root == "" {
		os.Exit(m.Run())
	}
	os.Exit(runtimeMain(root))
}

func runtimeMain(root string) int {
	if os.Getenv("DSO_TEST_NO_TMPFS") == "" {
		if err := mountPrivate(root); err != nil {
			panic(err)
		}
	}
	code := Main(os.Args[1:])
	left, _ := filepath.Glob(filepath.Join(private.Bundles(root), "*"))
	if len(left) > 0 {
		panic(left)
	}
	return code
}

func mountPrivate(root string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount("test", root, "tmpfs", 0, "mode=0700"); err != nil {
		return err
	}
	for _, dir := range private.Dirs(root) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if known := os.Getenv(knownEnv); known != "" {
		return os.WriteFile(private.EnvFile(root, "c1"), []byte(known), 0o600)
	}
	return nil
}

// stage is a host for one call of dso-runtime.
type stage struct {
	dir, bundle, record string
	env                 []string
	deadline            string
}

func newStage(t *testing.T, config string) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{dir: dir, bundle: filepath.Join(dir, "bundle"), record: filepath.Join(dir, "record"), deadline: "5s"}
	for _, d := range []string{s.bundle, s.record, filepath.Join(dir, "private")} {
		assert.NilError(t, os.Mkdir(d, 0o700))
	}
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "runc"), []byte(fakeRunc), 0o700))
	assert.NilError(t, os.WriteFile(filepath.Join(s.bundle, "config.json"), []byte(config), 0o600))
	s.env = append(os.Environ(), runtimeEnv+"="+filepath.Join(dir, "private"), "DSO_TEST_RECORD="+s.record)
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// call runs dso-runtime in a mount namespace of its own.
func (s *stage) call(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	own := []string{"--dso-runtime=" + s.path("runc"), "--dso-socket=" + s.path("sock"), "--dso-private=" + s.path("private"), "--dso-deadline=" + s.deadline}
	cmd := exec.Command(os.Args[0], append(own, args...)...)
	cmd.Env = s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (s *stage) create(t *testing.T) (int, string) {
	t.Helper()
	return s.call(t, "--log", s.path("log.json"), "--log-format", "json", "create", "--bundle", s.bundle, "--pid-file", s.path("pid"), "c1")
}

func (s *stage) recorded(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.record, name))
	assert.NilError(t, err)
	return string(data)
}

// serve answers every connection with what answer returns; nil hangs up.
func (s *stage) serve(t *testing.T, answer func(wire.DeliverRequest) *wire.DeliverResponse) {
	t.Helper()
	l, err := net.Listen("unix", s.path("sock"))
	assert.NilError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var req wire.DeliverRequest
			if wire.Read(conn, &req) == nil {
				if resp := answer(req); resp != nil {
					_ = wire.Write(conn, *resp)
				}
			}
			_ = conn.Close()
		}
	}()
}

func values(req wire.DeliverRequest) *wire.DeliverResponse {
	resp := &wire.DeliverResponse{Env: map[string][]byte{}}
	for _, r := range req.References {
		resp.Env[r.Variable] = []byte("value of " + r.Ref)
	}
	return resp
}

const plainJSON = `{"process":{"env":["A=b"]}}`

func TestMain_WithoutReferencesItBecomesTheRealRuntime(t *testing.T) {
	s := newStage(t, plainJSON)
	s.serve(t, func(wire.DeliverRequest) *wire.DeliverResponse { t.Error("the agent was asked"); return nil })
	s.env = append(s.env, "DSO_TEST_EXIT=7")
	code, out := s.create(t)
	assert.Equal(t, code, 7)
	assert.Equal(t, out, "runc says\n")
	assert.Equal(t, s.recorded(t, "args"), strings.Join([]string{"--log", s.path("log.json"), "--log-format", "json", "create", "--bundle", s.bundle, "--pid-file", s.path("pid"), "c1", ""}, "\n"))
}

func TestMain_OtherCommandsPassThroughWithoutAnAgent(t *testing.T) {
	for _, line := range []string{"start c1", "state c1", "kill c1 9", "delete --force c1", "events --stats c1", "--version", "features"} {
		s := newStage(t, bundleJSON)
		code, out := s.call(t, strings.Fields(line)...)
		assert.Equal(t, code, 0, out)
		assert.Equal(t, s.recorded(t, "args"), strings.Join(strings.Fields(line), "\n")+"\n")
	}
}

func TestMain_CreateHandsRuncAPrivateBundle(t *testing.T) {
	s := newStage(t, bundleJSON)
	s.serve(t, func(req wire.DeliverRequest) *wire.DeliverResponse {
		assert.Check(t, req.ContainerID == "c1" && !req.Exec && len(req.References) == 2)
		resp := values(req)
		resp.FilesDir = "/files/of/c1"
		return resp
	})
	s.env = append(s.env, "DSO_TEST_EXIT=3")
	code, out := s.create(t)
	assert.Equal(t, code, 3, "the real runtime's exit code: %s", out)

	env := generic(t, []byte(s.recorded(t, "config")))["process"].(map[string]any)["env"].([]any)
	assert.Equal(t, env[1], "DB=value of dso://app/db")
	args := strings.Fields(s.recorded(t, "args"))
	assert.Assert(t, strings.HasPrefix(args[6], private.Bundles(s.path("private"))+"/"), args[6])
	assert.Equal(t, s.recorded(t, "modes"), "700\n600\n")

	untouched, err := os.ReadFile(filepath.Join(s.bundle, "config.json"))
	assert.NilError(t, err)
	assert.Equal(t, string(untouched), bundleJSON)
	entries, err := os.ReadDir(s.bundle)
	assert.NilError(t, err)
	assert.Equal(t, len(entries), 1)
}

func TestMain_RefusalOfTheAgentReachesTheUser(t *testing.T) {
	s := newStage(t, bundleJSON)
	s.serve(t, func(wire.DeliverRequest) *wire.DeliverResponse {
		return &wire.DeliverResponse{Error: "cannot resolve dso://app/db for DB: provider local has no secret app/db"}
	})
	code, _ := s.create(t)
	assert.Equal(t, code, 1)
	data, err := os.ReadFile(s.path("log.json"))
	assert.NilError(t, err)
	var line struct{ Level, Msg, Time string }
	assert.NilError(t, json.Unmarshal(data, &line))
	assert.Equal(t, line.Level, "error")
	assert.Equal(t, line.Msg, "dso: cannot resolve dso://app/db for DB: provider local has no secret app/db")
	_, err = time.Parse(time.RFC3339Nano, line.Time)
	assert.NilError(t, err)
	_, err = os.Stat(filepath.Join(s.record, "args"))
	assert.ErrorIs(t, err, os.ErrNotExist, "nothing was started")
}

func TestMain_ASecretThatIsNotGivenIsRefusedInOneLineAndTheAgentIsTold(t *testing.T) {
	references := strings.NewReplacer("dso://", "http://", "dsofile://", "file://")
	rules := target.Rules{Rules: []target.Rule{{Name: "db"}}}
	for name, tc := range map[string]struct {
		present bool
		bundle  string
		rules   target.Rules
		missing []string
	}{
		"with an agent":                  {true, bundleJSON, rules, []string{"nosuch"}},
		"without":                        {false, bundleJSON, rules, []string{"nosuch"}},
		"a dso.yaml without secrets":     {true, bundleJSON, target.Rules{}, []string{"nosuch", "db"}},
		"nor references in the bundle":   {true, references.Replace(bundleJSON), target.Rules{}, []string{"nosuch", "db"}},
		"in another container's network": {true, strings.ReplaceAll(bundleJSON, "/x/c1", "/x/c0"), rules, []string{"nosuch"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, "")
			dir := s.path("c1")
			assert.NilError(t, os.Mkdir(dir, 0o700))
			config := strings.ReplaceAll(tc.bundle, "/x/", s.dir+"/")
			record := `{"Name": "/web", "Config": {"Labels": {"dso.secrets": "nosuch,db"}}}`
			assert.NilError(t, os.WriteFile(filepath.Join(s.bundle, "config.json"), []byte(config), 0o600))
			assert.NilError(t, os.WriteFile(filepath.Join(dir, "config.v2.json"), []byte(record), 0o600))
			assert.NilError(t, target.Save(s.path("targets.json"), tc.rules))
			s.deadline = "200ms"
			told := make(chan wire.DeliverRequest, 1)
			if tc.present {
				s.serve(t, func(req wire.DeliverRequest) *wire.DeliverResponse {
					told <- req
					return &wire.DeliverResponse{} // an agent that does not know of it
				})
			}
			code, out := s.call(t, "--dso-targets="+s.path("targets.json"), "create", "--bundle", s.bundle, "c1")
			assert.Equal(t, code, 1)
			assert.Assert(t, strings.HasPrefix(out, "dso: container web: label dso.secrets names "+strings.Join(tc.missing, ", ")+", which it is not given: add an entry of that name"), out)
			assert.Equal(t, strings.Count(out, "\n"), 1)
			assert.Assert(t, !strings.Contains(out, "config.json"), out)
			if tc.present {
				req := <-told
				assert.Equal(t, req.Name, "web")
				assert.DeepEqual(t, req.Missing, tc.missing)
			}
		})
	}
}

func TestMain_WaitsForAnAgentUntilItsDeadlineThenSaysSo(t *testing.T) {
	s := newStage(t, bundleJSON)
	s.deadline = "300ms"
	begun := time.Now()
	code, out := s.create(t)
	assert.Equal(t, code, 1)
	assert.Assert(t, time.Since(begun) > 250*time.Millisecond)
	assert.Assert(t, strings.Contains(out, "dso: cannot resolve dso://app/db: no agent answers on "+s.path("sock")+" (waited 300ms)"), out)
}

func TestMain_AgentThatNeverAnswersIsGivenUp(t *testing.T) {
	s := newStage(t, bundleJSON)
	s.deadline = "300ms"
	l, err := net.Listen("unix", s.path("sock"))
	assert.NilError(t, err)
	defer func() { _ = l.Close() }()
	code, out := s.create(t)
	assert.Equal(t, code, 1)
	assert.Assert(t, strings.Contains(out, "the agent did not answer within 300ms"), out)
}

func TestMain_AgentThatDiesWhileAskedIsAskedAgain(t *testing.T) {
	s := newStage(t, bundleJSON)
	asked := 0
	s.serve(t, func(req wire.DeliverRequest) *wire.DeliverResponse {
		if asked++; asked < 3 {
			return nil
		}
		return values(req)
	})
	code, out := s.create(t)
	assert.Equal(t, code, 0, out)
	assert.Equal(t, asked, 3)
}

func TestMain_ValuesAreNotWrittenWithoutATmpfs(t *testing.T) {
	s := newStage(t, bundleJSON)
	s.env = append(s.env, "DSO_TEST_NO_TMPFS=1")
	s.serve(t, values)
	code, out := s.create(t)
	assert.Equal(t, code, 1)
	assert.Assert(t, strings.Contains(out, "a value would reach a disk"), out)
}

func TestMain_BundleWithoutAnOptionIsTheWorkingDirectory(t *testing.T) {
	s := newStage(t, bundleJSON)
	s.serve(t, values)
	code, out := s.call(t, "create", "--bundle="+s.bundle, "c1")
	assert.Equal(t, code, 0, out)
	assert.Assert(t, strings.Contains(s.recorded(t, "args"), "--bundle="+private.Bundles(s.path("private"))), s.recorded(t, "args"))
}

func (s *stage) exec(t *testing.T, process string) (int, string) {
	t.Helper()
	assert.NilError(t, os.WriteFile(s.path("process.json"), []byte(process), 0o600))
	return s.call(t, "--log", s.path("log.json"), "exec", "--process", s.path("process.json"), "--detach", "--pid-file", s.path("pid"), "c1")
}

const processJSON = `{"terminal":false,"args":["pg_isready"],"env":["DB=dso://app/db","KEY=dsofile://app/key","A=b"],"cwd":"/"}`

func TestMain_ExecGetsWhatTheContainerWasStartedWithWithoutAnAgent(t *testing.T) {
	s := newStage(t, plainJSON)
	s.deadline = "100ms"
	known, err := json.Marshal(wire.Started{Values: map[string][]byte{"dso://app/db": []byte("one"), "dsofile://app/key": []byte("/run/secrets/dso/app/key")}})
	assert.NilError(t, err)
	s.env = append(s.env, knownEnv+"="+string(known))
	code, out := s.exec(t, processJSON)
	assert.Equal(t, code, 0, out)
	want := generic(t, []byte(processJSON))
	want["env"] = []any{"DB=one", "KEY=/run/secrets/dso/app/key", "A=b"}
	assert.DeepEqual(t, generic(t, []byte(s.recorded(t, "process"))), want)
	data, err := os.ReadFile(s.path("process.json"))
	assert.NilError(t, err)
	assert.Equal(t, string(data), processJSON)
}

func TestMain_ExecSeesWhatATargetGaveTheContainer(t *testing.T) {
	s := newStage(t, plainJSON)
	known, err := json.Marshal(wire.Started{
		Values: map[string][]byte{"dso://app/db": []byte("one")}, Given: []wire.Reference{{Variable: "DB", Ref: "dso://app/db", Given: true}},
	})
	assert.NilError(t, err)
	s.env = append(s.env, knownEnv+"="+string(known))
	code, out := s.exec(t, `{"args":["true"],"env":["A=b"],"cwd":"/"}`)
	assert.Equal(t, code, 0, out)
	env := generic(t, []byte(s.recorded(t, "process")))["env"].([]any)
	assert.DeepEqual(t, env, []any{"A=b", "DB=one"})
}

func TestMain_ExecAsksForTheRest(t *testing.T) {
	s := newStage(t, plainJSON)
	s.env = append(s.env, knownEnv+`={"values":{"dso://app/db":"b25l"}}`)
	s.serve(t, func(req wire.DeliverRequest) *wire.DeliverResponse {
		assert.Check(t, req.Exec && len(req.References) == 1 && req.References[0].Variable == "KEY")
		return values(req)
	})
	code, out := s.exec(t, processJSON)
	assert.Equal(t, code, 0, out)
	env := generic(t, []byte(s.recorded(t, "process")))["env"].([]any)
	assert.DeepEqual(t, env, []any{"DB=one", "KEY=value of dsofile://app/key", "A=b"})
}

func TestMain_ExecWithoutReferencesAsksNobody(t *testing.T) {
	s := newStage(t, plainJSON)
	code, out := s.exec(t, `{"env":["A=b"]}`)
	assert.Equal(t, code, 0, out)
	assert.Assert(t, strings.Contains(s.recorded(t, "args"), s.path("process.json")))
}

func TestMain_MistakenOptionIsReportedWhereTheEngineLooks(t *testing.T) {
	s := newStage(t, plainJSON)
	code, out := s.call(t, "--dso-nonsense=1", "--log", s.path("log.json"), "create", "--bundle", s.bundle, "c1")
	assert.Equal(t, code, 1)
	assert.Assert(t, strings.Contains(out, "unknown option --dso-nonsense"), out)
	_, err := os.Stat(s.path("log.json"))
	assert.NilError(t, err)
}
