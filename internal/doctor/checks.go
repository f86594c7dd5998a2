package doctor

import (
	"fmt"
	"strings"
)

// Check is one thing that is looked at.
type Check struct {
	ID          string
	Category    string
	Severity    string
	Name        string
	Description string

	look func(Facts) finding
}

// finding is what a look found. The zero status is that all is well.
type finding struct {
	status   Status
	detail   string
	cause    string
	recovery []string
	fixes    []Fix
}

func (c Check) run(f Facts) Result {
	got := c.look(f)
	if got.status == "" {
		got.status = Pass
	}
	if got.recovery == nil {
		got.recovery = []string{}
	}
	return Result{
		ID: c.ID, Category: c.Category, Severity: c.Severity, Name: c.Name, Description: c.Description,
		Status: got.status, Detail: got.detail, RootCause: got.cause, Recovery: got.recovery, Fixes: got.fixes,
	}
}

// The severities of a check that fails.
const (
	critical = "critical" // containers do not start, or serve
	high     = "high"     // secrets do not change, or a failure would not be survived
	medium   = "medium"   // it works, and will not for ever
	low      = "low"
)

// Checks is the table of all checks. An id that is taken out is never given again.
var Checks = []Check{
	{"DSO-DOCTOR-001", "agent", critical, "Agent answers", "The agent answers on its socket.", agentAnswers},
	{"DSO-DOCTOR-002", "agent", critical, "One agent", "No two agents work on this host, unless one of them stands by.", oneAgent},
	{"DSO-DOCTOR-003", "agent", low, "Versions fit", "The command line and the agent are of the same version.", versionsFit},
	{"DSO-DOCTOR-004", "engine", critical, "Docker socket", "The Docker Engine can be asked.", engineAnswers},
	{"DSO-DOCTOR-005", "engine", high, "Engine version", "The Docker Engine is 20.10 (API 1.41) or later.", engineVersion},
	{"DSO-DOCTOR-006", "engine", critical, "Runtime registered", "The runtime dso is registered in the engine.", runtimeRegistered},
	{"DSO-DOCTOR-007", "engine", critical, "Runtime works", "The program that is registered as runtime can be started, and finds the real one.", runtimeWorks},
	{"DSO-DOCTOR-008", "containers", critical, "No dual-running containers", "No place of a service is held by two running containers, unless a rotation is going on.", noDual},
	{"DSO-DOCTOR-009", "containers", critical, "Containers healthy", "Containers that use secrets run, and are healthy.", containersHealthy},
	{"DSO-DOCTOR-010", "containers", medium, "No leftovers", "No container of a rotation that is over, and nothing of an older version, is left.", noLeftovers},
	{"DSO-DOCTOR-011", "containers", high, "Runtime in use", "Containers whose environment has references run with the runtime dso.", runtimeUsed},
	{"DSO-DOCTOR-012", "state", high, "State files", "The journal and the other state files can be read.", stateReadable},
	{"DSO-DOCTOR-013", "state", low, "Nothing in quarantine", "No state file was found damaged and moved aside.", nothingAside},
	{"DSO-DOCTOR-014", "state", low, "No stale locks", "Every lock file is held by somebody.", noStaleLocks},
	{"DSO-DOCTOR-015", "state", critical, "Rotations", "No rotation needs a person, or is left undone.", rotationsMove},
	{"DSO-DOCTOR-016", "secrets", high, "Providers", "Every configured store answers.", providersAnswer},
	{"DSO-DOCTOR-017", "secrets", medium, "Values current", "Containers have the current versions, and were not started with those of before.", valuesCurrent},
	{"DSO-DOCTOR-018", "network", critical, "Fronts", "The fronts run, and send connections to where the agent says.", frontsApply},
	{"DSO-DOCTOR-019", "boot", high, "Starts at boot", "systemd starts the agent at boot.", startsAtBoot},
	{"DSO-DOCTOR-020", "boot", high, "Boot ordering", "The agent is started before the engine, so that containers get their secrets at boot.", bootOrder},
	{"DSO-DOCTOR-021", "host", high, "Disk space", "There is room for state and for the engine.", diskSpace},
	{"DSO-DOCTOR-022", "host", high, "Inodes", "There is room for more files.", inodes},
	{"DSO-DOCTOR-023", "host", medium, "Clock", "The clock is synchronized, and the engine's is the same.", clock},
	{"DSO-DOCTOR-024", "host", high, "Permissions", "Only root can read the state, and sockets are open to whom they are meant for.", permissions},
	{"DSO-DOCTOR-025", "host", medium, "Private tmpfs", "Delivered values lie on one tmpfs that is not swapped.", privateTmpfs},
	{"DSO-DOCTOR-026", "config", critical, "Configuration", "dso.yaml is valid.", configuration},
	{"DSO-DOCTOR-027", "compose", medium, "Docker Compose", "docker compose is version 2.20 or later.", composeVersion},
	{"DSO-DOCTOR-028", "audit", high, "Audit log", "The audit log is an unbroken chain.", auditChain},
}

// TestID is that of the check which doctor --test adds.
const TestID = "DSO-DOCTOR-100"

func fail(detail, cause string, recovery ...string) finding {
	return finding{status: Fail, detail: detail, cause: cause, recovery: recovery}
}

func warn(detail, cause string, recovery ...string) finding {
	return finding{status: Warn, detail: detail, cause: cause, recovery: recovery}
}

func good(format string, args ...any) finding { return finding{detail: fmt.Sprintf(format, args...)} }

func info(detail string, recovery ...string) finding {
	return finding{status: Info, detail: detail, recovery: recovery}
}

// unseen is what could not be looked at.
func unseen(why string) finding {
	return info("not looked at: "+why, "run it as root, with the agent running, to see everything")
}

func (f finding) with(fixes ...Fix) finding {
	f.fixes = append(f.fixes, fixes...)
	return f
}

func lines(parts []string) string { return strings.Join(parts, "\n") }

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
