package doctor

import (
	"time"
)

// Status is what a check found.
type Status string

// The statuses of a check, and of a report.
const (
	Pass Status = "PASS"
	Warn Status = "WARN" // it works, and something should be done
	Fail Status = "FAIL" // something does not work
	Info Status = "INFO" // nothing to judge, or it could not be looked at
)

// Report is the JSON of docker dso doctor.
type Report struct {
	SchemaVersion int       `json:"schema_version"`
	Overall       Status    `json:"overall_status"`
	Time          time.Time `json:"timestamp"`
	Summary       Summary   `json:"summary"`
	Checks        []Result  `json:"checks"`
}

// Summary counts the checks of a report.
type Summary struct {
	Total    int `json:"total"`
	Passed   int `json:"passed"`
	Warnings int `json:"warnings"`
	Failures int `json:"failures"`
	Infos    int `json:"infos"`
}

// Result is what one check found.
type Result struct {
	ID          string   `json:"id"`
	Category    string   `json:"category"`
	Severity    string   `json:"severity"` // of the check, when it fails: critical, high, medium, low
	Status      Status   `json:"status"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Detail      string   `json:"detail"`
	RootCause   string   `json:"root_cause"`
	Recovery    []string `json:"recovery"`
	Fixes       []Fix    `json:"fixes,omitempty"`
}

// Fix is something that doctor --fix can do.
type Fix struct {
	Kind   FixKind `json:"kind"`
	Target string  `json:"target,omitempty"`
	What   string  `json:"what"` // for a person
	Safe   bool    `json:"safe"` // without asking
	Mode   uint32  `json:"mode,omitempty"`
}

// FixKind is what a fix does.
type FixKind string

// The kinds of a [Fix].
const (
	FixMode       FixKind = "chmod"             // of Target, to Mode
	FixLock       FixKind = "remove-lock"       // Target, unless somebody holds it
	FixStart      FixKind = "start-agent"       // by systemd
	FixEnable     FixKind = "enable-agent"      // at boot
	FixRecover    FixKind = "recover"           // the rotations that are not over
	FixLeftovers  FixKind = "adopt-leftovers"   // of an older version
	FixQuarantine FixKind = "remove-quarantine" // Target, a file that could not be read
)

// Run looks at the facts with every check.
func Run(f Facts) Report {
	var results []Result
	for _, c := range Checks {
		results = append(results, c.run(f))
	}
	return Sum(f.Now, results)
}

// Sum makes a report of results.
func Sum(now time.Time, results []Result) Report {
	r := Report{SchemaVersion: 1, Overall: Pass, Time: now.UTC(), Checks: results}
	for _, c := range results {
		r.Summary.Total++
		switch c.Status {
		case Pass:
			r.Summary.Passed++
		case Warn:
			r.Summary.Warnings++
			if r.Overall == Pass {
				r.Overall = Warn
			}
		case Fail:
			r.Summary.Failures++
			r.Overall = Fail
		case Info:
			r.Summary.Infos++
		}
	}
	return r
}
