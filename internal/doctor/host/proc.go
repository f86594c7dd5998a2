package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/doctor"
	"github.com/docker-secret-operator/dso/internal/hostsetup"
)

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func processes() []doctor.Process {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []doctor.Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(procPath(pid, "cmdline"))
		if err != nil || len(line) == 0 {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		standby := slices.ContainsFunc(args[1:], func(a string) bool {
			return strings.TrimLeft(a, "-") == "standby" || strings.TrimLeft(a, "-") == "standby=true"
		})
		all = append(all, doctor.Process{PID: pid, Args: args, Standby: standby})
	}
	return all
}

// disks looks at the file systems of the paths, each once.
func disks(paths ...string) []doctor.Disk {
	var found []doctor.Disk
	seen := map[unix.Fsid]bool{}
	for _, path := range paths {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if path == "" || err != nil || seen[st.Fsid] {
			continue
		}
		seen[st.Fsid] = true
		size := uint64(st.Bsize) //nolint:gosec // a block has a size
		found = append(found, doctor.Disk{
			Path: path, Free: st.Bavail * size, Total: st.Blocks * size, FreeInodes: st.Ffree, TotalInodes: st.Files,
		})
	}
	return found
}

// clock asks the kernel; see adjtimex(2).
func clock() doctor.Clock {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return doctor.Clock{}
	}
	return doctor.Clock{Known: true, Synchronized: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0}
}

// tmpfs looks for what is mounted on a path, in proc_pid_mountinfo(5).
func tmpfs(path string) doctor.Tmpfs {
	t := doctor.Tmpfs{Path: path}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Err = err.Error()
		return t
	}
	for line := range strings.Lines(string(text)) {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 6 || len(kind) < 3 || fields[4] != path {
			continue
		}
		t.Times++
		t.Type = kind[0] // of two, the later one is on top
		t.NoSwap = slices.Contains(strings.Split(kind[2]+","+fields[5], ","), "noswap")
	}
	return t
}

// systemd asks systemctl, where there is one.
func systemd(ctx context.Context) doctor.Systemd {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return doctor.Systemd{}
	}
	s := doctor.Systemd{Present: true}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	show := func(unit string) map[string]string {
		out, _ := exec.CommandContext(ctx, "systemctl", "show", unit, "--property=LoadState,UnitFileState,ActiveState,Before,WantedBy").Output()
		values := map[string]string{}
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			values[key] = value
		}
		return values
	}
	unit, socket := show("dso-agent.service"), show("dso-runtime.socket")
	s.Unit = unit["LoadState"] == "loaded"
	s.Enabled = strings.HasPrefix(unit["UnitFileState"], "enabled")
	s.Active = unit["ActiveState"] == "active"
	for _, of := range []map[string]string{unit, socket} {
		s.BeforeDocker = s.BeforeDocker || slices.Contains(strings.Fields(of["Before"]), "docker.service")
	}
	return s
}

// keeper is this host as a setup has made it, asked with this engine.
func (h Host) keeper() *hostsetup.Host {
	s := hostsetup.New("")
	run := s.Run
	s.Run = func(ctx context.Context, name string, args ...string) (string, error) {
		if name == "docker" {
			name = h.Docker
			if h.Engine != "" {
				args = append([]string{"--host", h.Engine}, args...)
			}
		}
		return run(ctx, name, args...)
	}
	return s
}

// byEngine asks who keeps the agent alive.
func (h Host) byEngine(ctx context.Context) doctor.ByEngine {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, _ := h.keeper().Service(ctx) // of one that is not there, it says who it should be
	return doctor.ByEngine{Present: s.Manager == hostsetup.ByEngine, Enabled: s.Enabled}
}

func (h Host) compose(ctx context.Context) doctor.Compose {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, h.Docker, "compose", "version", "--short").Output()
	if err != nil {
		return doctor.Compose{Err: "docker compose version: " + err.Error()}
	}
	return doctor.Compose{Version: strings.TrimSpace(string(out))}
}
