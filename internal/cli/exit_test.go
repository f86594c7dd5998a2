package cli

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// Each row is what somebody types, the code that it ends with, and a part of the way out.
func TestExit_CodesAndWaysOut(t *testing.T) {
	answers := full()
	answers["POST /v1/references/check"] = []wire.CheckResult{{Error: "secret nosuch: no such secret", Code: wire.CodeNotFound, Hint: "docker dso secret list shows"}}
	socket := agentStub(t, answers)
	t.Chdir(t.TempDir())
	assert.NilError(t, os.WriteFile("bad.yaml", []byte("services:\n  a: [\n"), 0o600))
	assert.NilError(t, os.WriteFile("text", []byte("no program"), 0o600))
	for line, want := range map[string]struct {
		code int
		hint string
	}{
		"fetch nosuch":                        {ExitNotFound, "docker dso secret list"},
		"history nosuch":                      {ExitNotFound, "docker dso status lists"},
		"inspect ''":                          {ExitUsage, "dso inspect CONTAINER"},
		"plan ''":                             {ExitUsage, "dso plan"},
		"recover ''":                          {ExitUsage, "dso recover"},
		"recover --mark-recovered ''":         {ExitUsage, "dso recover --help"},
		"sync --secret ''":                    {ExitUsage, "dso sync --help"},
		"sync --timeout -1s":                  {ExitUsage, "dso sync --help"},
		"sync --timeout x":                    {ExitUsage, "dso sync --help"},
		"audit --last -1":                     {ExitUsage, "dso audit --help"},
		"audit --since -1h":                   {ExitUsage, "dso audit --help"},
		"audit --container ''":                {ExitUsage, "dso audit --help"},
		"history -n -1":                       {ExitUsage, "dso history --help"},
		"logs -n -3":                          {ExitUsage, "dso logs --help"},
		"system logs -n three":                {ExitUsage, "dso system logs --help"},
		"inject -- nosuchcmd":                 {ExitNoCommand, "PATH"},
		"inject -- ./text":                    {ExitNotRunnable, "PATH"},
		"inject -e A=plain -- true":           {ExitUsage, "env NAME=value"},
		"who-uses a@b":                        {ExitUsage, "NAMESPACE/NAME"},
		"secret set x --file /nosuch":         {ExitError, "standard input"},
		"-c /nosuch config show":              {ExitError, "-c names the file"},
		"validate --offline -f bad.yaml":      {ExitError, ""},
		"validate --offline -f nosuch.yaml":   {ExitError, ""},
		"up -f bad.yaml":                      {ExitError, "docker compose config"},
		"up -f nosuch.yaml":                   {ExitError, "-f names others"},
		"--socket /no/such/socket who-uses x": {ExitNoAgent, "systemctl start dso-agent"},
	} {
		args := strings.Fields(line)
		for i, arg := range args {
			if arg == "''" {
				args[i] = ""
			}
		}
		_, _, err := said(t, strings.NewReader("v"), append([]string{"--socket", socket}, args...)...)
		assert.Check(t, ExitCode(err) == want.code, "%s: %d %v", line, ExitCode(err), err)
		assert.Check(t, err != nil && strings.Contains(hintFor(err), want.hint) && (want.hint == "" || hintFor(err) != ""), "%s: %q", line, hintFor(err))
		if strings.Contains(line, ".yaml") {
			assert.Check(t, err != nil && strings.Contains(err.Error(), args[len(args)-1]), "%s does not name the file: %v", line, err)
		}
	}
}

func TestExit_AFileThatIsNoYAMLIsNamedByDiff(t *testing.T) {
	t.Chdir(t.TempDir())
	assert.NilError(t, os.WriteFile("compose.yaml", []byte("services: [\n"), 0o600))
	_, _, err := said(t, nil, "--socket", agentStub(t, full()), "diff")
	assert.ErrorContains(t, err, "compose.yaml: yaml")
	assert.Assert(t, hintFor(err) != "")
}

// What has its place in a table can be typed.
func TestSecretNames_AreTakenAsTheyAreShown(t *testing.T) {
	socket := agentStub(t, full())
	t.Chdir(t.TempDir())
	t.Setenv("COMPOSE_PROJECT_NAME", "shop")
	for _, typed := range []string{"local:shop/db", "local/shop/db", "shop/db", "dso://shop/db", "dso://local/shop/db"} {
		for _, args := range [][]string{
			{"who-uses", typed}, {"secret", "get", typed, "--json"}, {"secret", "history", typed}, {"secret", "rollback", typed}, {"secret", "set", typed}, {"rotate", typed},
			{"sync", "--secret", typed}, {"fetch", typed}, {"history", typed},
		} {
			out, _, err := said(t, strings.NewReader("v"), append([]string{"--socket", socket}, args...)...)
			missing := args[0] == "secret" && args[1] == "get" // the stub has no value
			assert.Check(t, err == nil || missing && ExitCode(err) == ExitNotFound, "%v: %v", args, err)
			assert.Check(t, args[0] != "history" || strings.Contains(out, "shop-web-1"), "%v: %s", args, out)
		}
	}
	for typed, project := range map[string]string{"db": "shop", "dso://db": "shop", "local:db": "shop", "dso://local/db": "shop", "local:ns/db": "", "vault:kv/db": "", "vault/db": ""} {
		name, got, err := secretNamed(t.Context(), typed)
		assert.NilError(t, err)
		assert.Check(t, name == typed && got == project, "%s: project %q", typed, got)
	}
}

func TestAnswered_CtrlCIsAnAnswer(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	_, err := answered(func() (string, error) {
		assert.NilError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
		<-release
		return "y", nil
	})
	assert.ErrorIs(t, err, errInterrupted)
	assert.Equal(t, ExitCode(err), 130)
	got, err := answered(func() (string, error) { return "y", nil })
	assert.Assert(t, got == "y" && err == nil)
}

func TestApply_WithNothingToDoAsksNobody(t *testing.T) {
	answers := full()
	st := answers["GET /v1/status"].(wire.Status)
	st.Containers[0].UpToDate = true
	out, _, err := said(t, strings.NewReader(""), "--socket", agentStub(t, answers), "apply")
	assert.NilError(t, err)
	assert.Assert(t, strings.HasPrefix(out, "every container has the versions"), out)
	_, _, err = said(t, strings.NewReader(""), "--socket", agentStub(t, full()), "apply")
	assert.Equal(t, ExitCode(err), ExitUsage)
}

// A pseudo-terminal of the kernel's is one, with nobody at its other end.
func TestPaint_ADumbTerminalGetsTextOnly(t *testing.T) {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	assert.NilError(t, err)
	defer func() { _ = pty.Close() }()
	a := &app{out: pty}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	assert.Assert(t, a.rewrites() && a.paint(red, "x") != "x")
	t.Setenv("NO_COLOR", "1")
	assert.Assert(t, a.rewrites() && a.paint(red, "x") == "x", "a line may be rewritten without colour")
	t.Setenv("TERM", "dumb")
	t.Setenv("NO_COLOR", "")
	assert.Assert(t, !a.rewrites() && a.paint(red, "x") == "x")
}
