package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/golden"

	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// well are the facts of a host on which everything is as it should be.
func well() Facts {
	return Facts{
		Now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Version: "4.0.0", Root: true,
		Agent: Agent{
			Socket: "/run/dso/dso.sock", Reached: true, Processes: []Process{{PID: 42, Args: []string{"dso-agent"}}},
			Status: wire.Status{
				Health: wire.Healthy, Runtime: wire.RuntimeStatus{Version: "4.0.0", Uptime: "3h0m0s"},
				Providers:  []wire.ProviderStatus{{Name: "local", Status: "ok"}},
				Containers: []wire.ContainerStatus{{Name: "shop-web-1", State: "running", UpToDate: true}},
			},
			Fronts: []wire.Front{{Key: "shop_web", Container: "shop-web-front-1", Running: true, Needed: true, Ordered: 3, Applied: 3}},
		},
		Engine: Engine{
			Socket: "unix:///var/run/docker.sock", Version: "29.0", API: "1.56", DefaultRuntime: "runc",
			Runtimes: map[string]Runtime{"dso": {Path: "/usr/local/bin/dso-runtime"}, "runc": {Path: "runc"}},
			Containers: []Container{
				{ID: "a", Name: "shop-web-1", State: "running", Health: "healthy", Runtime: "dso", Project: "shop", Service: "web", Number: "1", References: 1},
				{ID: "b", Name: "other", State: "exited", Runtime: "runc"},
			},
		},
		Systemd: Systemd{Present: true, Unit: true, Enabled: true, Active: true, BeforeDocker: true},
		Config:  Config{File: "/etc/dso/dso.yaml"},
		State:   []StateFile{{Path: "/var/lib/dso/state/rotations.json"}},
		Locks:   []Lock{{Path: "/var/lib/dso/locks/x.lock", Held: true}},
		Paths:   []Path{{Path: "/var/lib/dso/state", Mode: os.ModeDir | 0o700, Most: 0o700, Dir: true, Needed: true}},
		Disks:   []Disk{{Path: "/var/lib/dso", Free: 50, Total: 100, FreeInodes: 50, TotalInodes: 100}},
		Clock:   Clock{Known: true, Synchronized: true},
		Tmpfs:   Tmpfs{Path: "/run/dso/private", Type: "tmpfs", NoSwap: true, Times: 1},
		Compose: Compose{Version: "v2.40.0"},
		Audit:   Audit{Records: 12},
	}
}

func TestRun_AHostThatIsWellPassesEverything(t *testing.T) {
	r := Run(well())
	for _, c := range r.Checks {
		assert.Check(t, c.Status == Pass, "%s %s: %s", c.ID, c.Status, c.Detail)
	}
	assert.Equal(t, r.Overall, Pass)
	assert.Equal(t, r.Summary, Summary{Total: len(Checks), Passed: len(Checks)})
	text, err := json.MarshalIndent(r, "", "  ")
	assert.NilError(t, err)
	golden.Assert(t, string(text)+"\n", "well.json")
}

// Ids are for ever: this list is only ever added to.
func TestChecks_IDsNeverChange(t *testing.T) {
	var lines []string
	seen := map[string]bool{}
	for _, c := range Checks {
		assert.Check(t, !seen[c.ID], c.ID)
		seen[c.ID] = true
		lines = append(lines, c.ID+" "+c.Name)
	}
	golden.Assert(t, strings.Join(lines, "\n")+"\n", "ids.txt")
}

func agentDown(f *Facts) {
	f.Agent = Agent{Socket: f.Agent.Socket, Err: "no agent is running"}
}

// Each damage is seen by its check, and by no other than those named.
func TestRun_EachDamageIsSeenByItsCheck(t *testing.T) {
	type damage struct {
		name string
		do   func(*Facts)
		want string // "ID STATUS", several with commas
		fix  FixKind
	}
	for _, d := range []damage{
		{"no agent", agentDown, "001 FAIL", FixStart},
		{"an agent elsewhere", func(f *Facts) { agentDown(f); f.Agent.Processes = []Process{{PID: 7}} }, "001 FAIL", ""},
		{"not allowed", func(f *Facts) { agentDown(f); f.Agent.Denied = true }, "001 WARN", ""},
		{"two agents", func(f *Facts) { f.Agent.Processes = append(f.Agent.Processes, Process{PID: 43}) }, "002 FAIL", ""},
		{"a standby", func(f *Facts) { f.Agent.Processes = append(f.Agent.Processes, Process{PID: 43, Standby: true}) }, "", ""},
		{"another version", func(f *Facts) { f.Version = "4.1.0" }, "003 WARN", ""},
		{"no engine", func(f *Facts) { f.Engine = Engine{Err: "connection refused"} }, "004 FAIL", ""},
		{"an old engine", func(f *Facts) { f.Engine.API = "1.40" }, "005 FAIL", ""},
		{"no runtime", func(f *Facts) { delete(f.Engine.Runtimes, "dso") }, "006 FAIL", ""},
		{"a runtime that is gone", func(f *Facts) { f.Engine.Runtimes["dso"] = Runtime{Path: "/x", Err: "no such file"} }, "007 FAIL", ""},
		{"two in one place", func(f *Facts) {
			twin := f.Engine.Containers[0]
			twin.ID, twin.Name = "c", "shop-web-1_old_1"
			f.Engine.Containers = append(f.Engine.Containers, twin)
		}, "008 FAIL", ""},
		{"a rotation going on", func(f *Facts) {
			twin := f.Engine.Containers[0]
			twin.ID, twin.Name, twin.Rotation = "c", "shop-web-1_dso_new_1", "r"
			f.Engine.Containers = append(f.Engine.Containers, twin)
			f.Agent.Status.Rotations.Open = []wire.PendingRotation{{Container: "shop-web-1", Step: "gate"}}
		}, "", ""},
		{"unhealthy", func(f *Facts) { f.Engine.Containers[0].Health = "unhealthy" }, "009 FAIL", ""},
		{"start refused", func(f *Facts) {
			f.Engine.Containers[0].State, f.Engine.Containers[0].Error = "exited", "cannot resolve"
		}, "009 FAIL", ""},
		{"a leftover of ours", func(f *Facts) {
			f.Engine.Containers = append(f.Engine.Containers, Container{Name: "web_dso_backup_1", State: "exited", Rotation: "r"})
		}, "010 WARN", ""},
		{"a leftover of an older version", func(f *Facts) {
			f.Agent.Leftovers = []wire.Leftover{{Kind: wire.LeftoverContainer, Name: "web_old_1", Do: "remove", Why: "it is a copy"}}
		}, "010 WARN", FixLeftovers},
		{"the wrong runtime", func(f *Facts) { f.Engine.Containers[0].Runtime = "runc" }, "011 FAIL", ""},
		{"a damaged journal", func(f *Facts) { f.State[0].Err = "unexpected end of JSON input" }, "012 FAIL", ""},
		{"something in quarantine", func(f *Facts) { f.State[0].Quarantined = []string{"x.corrupt-1"} }, "013 WARN", FixQuarantine},
		{"a stale lock", func(f *Facts) { f.Locks[0].Held = false }, "014 WARN", FixLock},
		{"a stuck rotation", func(f *Facts) {
			f.Agent.Status.Rotations.Open = []wire.PendingRotation{{Container: "shop-web-1", Step: "stop", NeedsPerson: true, Error: "x"}}
		}, "015 FAIL", FixRecover},
		{"a store that is down", func(f *Facts) {
			f.Agent.Status.Providers = append(f.Agent.Status.Providers, wire.ProviderStatus{Name: "vault", Status: "error", Message: "timeout"})
		}, "016 FAIL", ""},
		{"stale values", func(f *Facts) { f.Agent.Status.Containers[0].Stale = &wire.Stale{Age: "1h", Cause: "timeout"} }, "017 WARN", ""},
		{"a pin after a failure", func(f *Facts) {
			f.Agent.Status.Containers[0].UpToDate = false
			f.Agent.Status.Containers[0].Pin = &wire.Pin{Failed: map[string]string{"local:a": "2"}}
		}, "017 WARN", ""},
		{"a stopped front", func(f *Facts) { f.Agent.Fronts[0].Running = false }, "018 FAIL", ""},
		{"a front that is gone", func(f *Facts) { f.Agent.Fronts[0] = wire.Front{Key: "shop_web", Needed: true} }, "018 FAIL", ""},
		{"a front with old tables", func(f *Facts) { f.Agent.Fronts[0].Applied = 2 }, "018 FAIL", ""},
		{"no unit", func(f *Facts) { f.Systemd = Systemd{Present: true} }, "019 WARN", ""},
		{"not enabled", func(f *Facts) { f.Systemd.Enabled = false }, "019 WARN", FixEnable},
		{"a container that is not started", func(f *Facts) { f.ByEngine = ByEngine{Present: true} }, "019 WARN", FixEnable},
		{"the wrong order", func(f *Facts) { f.Systemd.BeforeDocker = false }, "020 WARN", ""},
		{"a full disk", func(f *Facts) { f.Disks[0].Free = 0 }, "021 FAIL", ""},
		{"a disk that fills", func(f *Facts) { f.Disks[0].Free = 4 }, "021 WARN", ""},
		{"no inodes", func(f *Facts) { f.Disks[0].FreeInodes = 0 }, "022 FAIL", ""},
		{"a file system without inodes", func(f *Facts) { f.Disks[0].TotalInodes, f.Disks[0].FreeInodes = 0, 0 }, "", ""},
		{"a clock that is off", func(f *Facts) { f.Engine.Offset = -time.Minute }, "023 WARN", ""},
		{"a clock alone", func(f *Facts) { f.Clock.Synchronized = false }, "023 WARN", ""},
		{"an open directory", func(f *Facts) { f.Paths[0].Mode = os.ModeDir | 0o755 }, "024 FAIL", FixMode},
		{"a file for a directory", func(f *Facts) { f.Paths[0].Mode = 0o600 }, "024 FAIL", ""},
		{"something needed is missing", func(f *Facts) { f.Paths[0].Missing = true }, "024 FAIL", ""},
		{"no tmpfs", func(f *Facts) { f.Tmpfs = Tmpfs{Path: "/run/dso/private"} }, "025 FAIL", ""},
		{"two mounts", func(f *Facts) { f.Tmpfs.Times = 2 }, "025 FAIL", ""},
		{"a tmpfs that is swapped", func(f *Facts) { f.Tmpfs.NoSwap = false }, "025 WARN", ""},
		{"a bad configuration", func(f *Facts) { f.Config.Problems = []string{"dso.yaml:1:1: x"} }, "026 FAIL", ""},
		{"no compose", func(f *Facts) { f.Compose = Compose{Err: "not a docker command"} }, "027 WARN", ""},
		{"an old compose", func(f *Facts) { f.Compose.Version = "2.17.3" }, "027 FAIL", ""},
		{"a changed audit log", func(f *Facts) { f.Audit.Problems = []string{"x"} }, "028 FAIL", ""},
	} {
		t.Run(d.name, func(t *testing.T) {
			f := well()
			d.do(&f)
			var got []string
			for _, c := range Run(f).Checks {
				if c.Status != Warn && c.Status != Fail {
					continue
				}
				got = append(got, strings.TrimPrefix(c.ID, "DSO-DOCTOR-")+" "+string(c.Status))
				assert.Check(t, c.RootCause != "" && len(c.Recovery) > 0 && c.Detail != "", "%s says why, and what to do", c.ID)
				kinds := ""
				for _, fix := range c.Fixes {
					kinds = string(fix.Kind)
					assert.Check(t, fix.What != "")
				}
				assert.Check(t, kinds == string(d.fix), "%s offers %q, want %q", c.ID, kinds, d.fix)
			}
			assert.Equal(t, strings.Join(got, ","), d.want)
		})
	}
}

// What cannot be looked at is neither good nor bad.
func TestRun_WithoutAnythingToLookAtNothingIsJudged(t *testing.T) {
	f := Facts{Now: time.Unix(1, 0), Agent: Agent{Err: "denied", Denied: true}, Engine: Engine{Err: "denied"}, Audit: Audit{Err: "denied"}, Tmpfs: Tmpfs{Err: "denied"}}
	for _, c := range Run(f).Checks {
		if c.Status == Fail {
			assert.Check(t, c.ID == "DSO-DOCTOR-004", "%s %s", c.ID, c.Detail)
		}
	}
}

func TestSum_TheWorstCounts(t *testing.T) {
	for _, tc := range []struct {
		statuses []Status
		want     Status
	}{{[]Status{Pass, Info}, Pass}, {[]Status{Warn, Pass}, Warn}, {[]Status{Fail, Warn}, Fail}, {[]Status{Warn, Fail, Pass}, Fail}} {
		var results []Result
		for _, s := range tc.statuses {
			results = append(results, Result{Status: s})
		}
		assert.Equal(t, Sum(time.Now(), results).Overall, tc.want, fmt.Sprint(tc.statuses))
	}
}
