package reconcile_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"pgregory.net/rapid"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// A scenario is what happens to a host: some places, each held by one container,
// and rounds of acts. After each round all that was broken is mended, and after a
// while of quiet the host is compared with the model.
type scenario struct {
	Places []string // kinds
	Rounds [][]act
}

// act is one thing that happens: at once, or when a rotation passes a point for the
// first time after.
type act struct {
	Do    string
	Place int
	// Twin means the container of the place that does not have its name, if any.
	Twin bool
	At   string
	Call string        // of the engine, for the acts that make one fail
	For  time.Duration // for the acts that take time
}

func (a act) String() string {
	s := fmt.Sprintf("{Do: %q", a.Do)
	if a.Place != 0 {
		s += fmt.Sprintf(", Place: %d", a.Place)
	}
	if a.Twin {
		s += ", Twin: true"
	}
	if a.At != "" {
		s += fmt.Sprintf(", At: %q", a.At)
	}
	if a.Call != "" {
		s += fmt.Sprintf(", Call: %q", a.Call)
	}
	if a.For != 0 {
		s += fmt.Sprintf(", For: %d * time.Millisecond", a.For.Milliseconds())
	}
	return s + "}"
}

// String is the scenario as it is written in Go.
func (s scenario) String() string {
	out := fmt.Sprintf("scenario{\n\tPlaces: %#v,\n\tRounds: [][]act{\n", s.Places)
	for _, round := range s.Rounds {
		out += "\t\t{\n"
		for _, a := range round {
			out += "\t\t\t" + a.String() + ",\n"
		}
		out += "\t\t},\n"
	}
	return out + "\t},\n}"
}

// kinds are the kinds of containers, with their strategies.
var kinds = map[string]rotation.Strategy{
	"front": rotation.Rolling, "volume": rotation.Rolling, "restart": rotation.Restart, "files": rotation.None,
	"signal": rotation.Signal, "exec": rotation.Exec,
}

func optionsOf(kind string) []hosttest.Option {
	scheme := "dso"
	if kind == "files" || kind == "signal" || kind == "exec" {
		scheme = "dsofile"
	}
	opts := []hosttest.Option{
		hosttest.Env("DB=" + scheme + "://app/db"), hosttest.Env("API=" + scheme + "://app/api"),
		hosttest.Label(label.Strategy, string(kinds[kind])), hosttest.Policy(container.RestartPolicyAlways),
	}
	switch kind {
	case "front":
		opts = append(opts, hosttest.Service("app", "web"), hosttest.Label(label.Front, "web-front"), hosttest.Policy(container.RestartPolicyUnlessStopped))
	case "exec":
		opts = append(opts, hosttest.Label(label.Exec, "reload"))
	case "volume":
		opts = append(opts, func(s *engine.Spec) { s.Config.Volumes = map[string]struct{}{"/data": {}} })
	}
	return opts
}

// The acts, by what they have in common.
var (
	sets    = []string{"set", "set", "set bad", "set bad later", "set api"}
	persons = []string{"remove", "stop", "start", "restart", "kill", "rename", "up", "rotate"}
	deaths  = []string{"die", "sigterm", "boot", "lose journal", "damage journal", "older journal"}
	outages = []string{"engine restarts", "engine down", "fail", "fail after", "fault", "wait"}
)

var failing = []string{"Inspect", "List", "Create", "Start", "Stop", "Restart", "Signal", "Exec", "Remove", "Rename", "SetRestartPolicy"}

// durations to wait: within a step, a gate, a rotation, a pause before another.
var durations = []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, 1200 * time.Millisecond, 4 * time.Second, 20 * time.Second, 5 * time.Minute}

func drawScenario(t *rapid.T) scenario {
	s := scenario{Places: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"front", "volume", "restart", "signal", "exec", "files"}), 1, 2, rapid.ID).Draw(t, "places")}
	var points []string
	for _, p := range rotation.Points() {
		if slices.ContainsFunc(s.Places, func(kind string) bool { return kinds[kind] == p.Strategy }) {
			points = append(points, p.String())
			if p.Phase == rotation.Forward { // most never leave it
				points = append(points, p.String(), p.String())
			}
		}
	}
	acts := rapid.Custom(func(t *rapid.T) act {
		a := act{
			Do:    rapid.SampledFrom(slices.Concat(sets, persons, deaths, outages)).Draw(t, "do"),
			Place: rapid.IntRange(0, len(s.Places)-1).Draw(t, "place"),
			Twin:  rapid.Bool().Draw(t, "twin"),
		}
		if a.Do != "boot" && a.Do != "wait" && rapid.Bool().Draw(t, "later") || a.Do == "fault" {
			a.At = rapid.SampledFrom(points).Draw(t, "at")
		}
		switch a.Do {
		case "fail", "fail after":
			a.Call = rapid.SampledFrom(failing).Draw(t, "call")
		case "engine down", "wait":
			a.For = rapid.SampledFrom(durations).Draw(t, "for")
		}
		return a
	})
	rounds := rapid.Custom(func(t *rapid.T) []act {
		round := rapid.SliceOfN(acts, 0, 6).Draw(t, "acts")
		if set := rapid.SampledFrom(append(sets, "")).Draw(t, "set"); set != "" { // or little happens
			round = slices.Insert(round, rapid.IntRange(0, len(round)).Draw(t, "when"), act{Do: set})
		}
		return round
	})
	s.Rounds = rapid.SliceOfN(rounds, 1, 3).Draw(t, "rounds")
	return s
}
