package ociruntime

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// The command lines are those of containerd's shim (go-runc), as seen with
// containerd 1.6 and 2.x, and a few that people type.
func TestParseCall_UnderstandsWhatTheShimSays(t *testing.T) {
	const global = "--root /var/run/docker/runtime-runc/moby --log /run/b/log.json --log-format json "
	for line, want := range map[string]call{
		global + "create --bundle /run/b --pid-file /run/b/init.pid c1":                                                   {command: "create", log: "/run/b/log.json", bundle: 8, process: -1, id: "c1"},
		global + "--systemd-cgroup create --bundle /run/b --pid-file /run/b/init.pid --console-socket /tmp/p/pty.sock c1": {command: "create", log: "/run/b/log.json", bundle: 9, process: -1, id: "c1"},
		global + "create --bundle /run/b --pid-file /p --no-pivot --no-new-keyring --preserve-fds 2 c1":                   {command: "create", log: "/run/b/log.json", bundle: 8, process: -1, id: "c1"},
		global + "exec --process /tmp/runc-process1 --console-socket /tmp/s --detach --pid-file /run/b/x.pid c1":          {command: "exec", log: "/run/b/log.json", bundle: -1, process: 8, id: "c1"},
		global + "exec --process /tmp/runc-process1 --detach --pid-file /run/b/x.pid c1":                                  {command: "exec", log: "/run/b/log.json", bundle: -1, process: 8, id: "c1"},
		global + "start c1":                {command: "start", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "state c1":                {command: "state", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "delete --force c1":       {command: "delete", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "delete c1":               {command: "delete", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "kill --all c1 9":         {command: "kill", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "kill c1 15":              {command: "kill", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "events --stats c1":       {command: "events", log: "/run/b/log.json", bundle: -1, process: -1, id: "c1"},
		global + "ps --format json c1":     {command: "ps", log: "/run/b/log.json", bundle: -1, process: -1, id: "json"}, // of no interest
		global + "update --resources - c1": {command: "update", log: "/run/b/log.json", bundle: -1, process: -1, id: "-"},
		"--version":                        {bundle: -1, process: -1},
		"features":                         {command: "features", bundle: -1, process: -1},
		"":                                 {bundle: -1, process: -1},
		"--debug --rootless=true --log=/l create -b /b c1":  {command: "create", log: "/l", bundle: 5, process: -1, id: "c1"},
		"create --bundle=/b c1":                             {command: "create", bundle: 1, process: -1, id: "c1"},
		"-log /l create -bundle /b c1":                      {command: "create", log: "/l", bundle: 4, process: -1, id: "c1"},
		"run c1":                                            {command: "run", bundle: -1, process: -1, id: "c1"},
		"create -- c1":                                      {command: "create", bundle: -1, process: -1, id: "c1"},
		"exec -t -u 0 --env A=--process c1 sh -c --process": {command: "exec", bundle: -1, process: -1, id: "c1"},
		"exec -p /p c1":                                     {command: "exec", bundle: -1, process: 2, id: "c1"},
		"delete --bundle /b c1":                             {command: "delete", bundle: -1, process: -1, id: "c1"},
		"create --bundle":                                   {command: "create", bundle: -1, process: -1},
		"--root create create --bundle /b --pid-file --bundle create": {command: "create", bundle: 4, process: -1, id: "create"},
	} {
		t.Run(line, func(t *testing.T) {
			args := strings.Fields(line)
			got := parseCall(args)
			assert.DeepEqual(t, got.args, args)
			if want.command != "" {
				assert.Equal(t, args[got.at], want.command)
			}
			for _, check := range []struct{ got, want any }{
				{got.command, want.command}, {got.log, want.log}, {got.bundle, want.bundle}, {got.process, want.process},
			} {
				assert.Equal(t, check.got, check.want)
			}
			if want.id != "" {
				assert.Equal(t, got.id, want.id)
			}
		})
	}
}

func TestCall_ReplacesOneOperandAndNothingElse(t *testing.T) {
	for line, want := range map[string]string{
		"--log /b create --bundle /b --pid-file /b c1": "--log /b create --bundle /new --pid-file /b c1",
		"create --bundle=/b=c c1":                      "create --bundle=/new c1",
		"create -b=/b c1":                              "create -b=/new c1",
	} {
		c := parseCall(strings.Fields(line))
		assert.Equal(t, strings.Join(c.replace(c.bundle, "/new"), " "), want)
		assert.Equal(t, strings.Join(c.args, " "), line, "the original is not changed")
	}
}

func TestCall_GetsABundleWhereRuncLooksForIt(t *testing.T) {
	for line, want := range map[string]string{
		"--log /l run c1":               "--log /l run --bundle /new c1",
		"create -- c1":                  "create --bundle /new -- c1",
		"create --no-pivot c1":          "create --bundle /new --no-pivot c1",
		"create --pid-file /p c1 extra": "create --bundle /new --pid-file /p c1 extra",
	} {
		c := parseCall(strings.Fields(line))
		assert.Equal(t, strings.Join(c.withBundle("/new"), " "), want)
	}
}

func TestParseOptions_TakesOnlyItsOwn(t *testing.T) {
	o, args, err := parseOptions([]string{"--dso-runtime=/r", "--dso-socket=/s", "--dso-private=/p", "--dso-deadline=3s", "--log", "--dso-x"}, Options{})
	assert.NilError(t, err)
	assert.DeepEqual(t, o, Options{Runtime: "/r", Socket: "/s", Private: "/p", Deadline: 3 * time.Second})
	assert.DeepEqual(t, args, []string{"--log", "--dso-x"})
	for _, bad := range []string{"--dso-runtime", "--dso-deadline=x", "--dso-deadline=-1s", "--dso-else=1"} {
		_, rest, err := parseOptions([]string{bad, "--log", "/l", "create"}, Options{})
		assert.ErrorContains(t, err, strings.Split(bad, "=")[0])
		assert.Equal(t, parseCall(rest).log, "/l", "the reason can be logged")
	}
}

func FuzzParseCall(f *testing.F) {
	f.Add("--log /l create --bundle /b c1")
	f.Add("exec --process=/p c1 sh")
	f.Add("create --bundle")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		c := parseCall(slices.Clone(args))
		assert.DeepEqual(t, c.args, args)
		for _, i := range []int{c.bundle, c.process} {
			if i < 0 {
				continue
			}
			replaced := c.replace(i, "/new")
			assert.Equal(t, len(replaced), len(args))
			again := parseCall(replaced)
			assert.Equal(t, again.operand(i), "/new")
			assert.Equal(t, again.command, c.command)
			assert.Equal(t, again.id, c.id)
		}
		if c.command == "create" && c.bundle < 0 {
			again := parseCall(c.withBundle("/new"))
			assert.Equal(t, again.operand(again.bundle), "/new")
		}
	})
}
