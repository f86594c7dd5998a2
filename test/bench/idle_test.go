package bench

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/metrics"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/window"
)

// compareEvery is the agent's own time between two comparisons of everything.
const compareEvery = 10 * time.Minute

// host is a host in memory with an agent that does nothing but look for changes.
type host struct {
	*hosttest.Host
	controller *reconcile.Controller
}

func newHost(t *testing.T, polling time.Duration) *host {
	h := &host{Host: hosttest.New(t)}
	h.Polling = polling
	h.Boot(t)
	aliases, err := reconcile.OpenAliases(filepath.Join(h.Dir, "state", "networks.json"), h.Engine)
	assert.NilError(t, err)
	h.controller = &reconcile.Controller{
		Engine: h.Engine, Claim: func(context.Context) error { return nil }, Lost: func() {},
		Machine: h.Machine, Locks: h.Locks, Deliveries: h.Store, Current: h.Watch, Fronts: h.Fronts,
		Past:    h.Past,
		Ports:   func(engine.Container) ([]uint16, error) { return nil, nil },
		Window:  func() window.Window { return window.Window{} },
		Aliases: aliases, Log: h.Log, Metrics: metrics.New().Events, Parallel: 4, Interval: compareEvery,
	}
	return h
}

// start lets the agent work, and returns once everything was compared.
func (h *host) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	h.controller.Init(ctx)
	ready := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { h.Watch.Run(ctx) })
	wg.Go(func() { h.controller.Run(ctx, h.Watch.Changed(), func() { close(ready) }) })
	<-ready
	return func() {
		cancel()
		wg.Wait()
		h.controller.Wait()
	}
}

// fill makes containers with references to the secrets in turn.
func (h *host) fill(t *testing.T, from, containers, references, secrets int) {
	t.Helper()
	for i := from; i < from+containers; i++ {
		var opts []hosttest.Option
		for j := range references {
			opts = append(opts, hosttest.Env(fmt.Sprintf("S%d=dso://app/s%d", j, (i*references+j)%secrets)))
		}
		h.Run(t, fmt.Sprintf("c%d", i), opts...)
	}
}

func (h *host) set(secrets int) {
	for i := range secrets {
		h.Secrets.Set(fmt.Sprintf("app/s%d", i), "a value of some length, as passwords have")
	}
}

func TestIdle_CallsToTheStore(t *testing.T) {
	const (
		containers, references, secrets = 500, 2, 100
		interval                        = 10 * time.Second
		intervals                       = 60
	)
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, interval)
		h.set(secrets)
		h.fill(t, 0, containers, references, secrets)
		time.Sleep(time.Minute)
		before, values := h.Secrets.Versions.Load(), h.Secrets.Gets.Load()
		stop := h.start()
		defer stop()
		synctest.Wait()
		first := h.Secrets.Versions.Load() - before
		time.Sleep(2 * interval)
		most, all := int64(0), int64(0)
		for range intervals {
			before := h.Secrets.Versions.Load()
			time.Sleep(interval)
			calls := h.Secrets.Versions.Load() - before
			most, all = max(most, calls), all+calls
		}
		gets := h.Secrets.Gets.Load() - values
		fmt.Printf("bench: references=%d secrets=%d interval=%s version_calls_per_interval=%.1f most_in_one_interval=%d floor=%d value_calls=%d first_comparison_version_calls=%d\n",
			containers*references, secrets, interval, float64(all)/intervals, most, secrets, gets, first)
		assert.Check(t, most <= secrets, "%d calls for a version in an interval", most)
		assert.Check(t, all == secrets*intervals, "each secret once: %d calls in %d intervals", all, intervals)
		assert.Check(t, gets == 0, "%d calls for a value, and nothing changed", gets)
	})
}

// The limits of an agent with 1000 containers and 2000 secrets.
const (
	maxRSS = 60 << 20
	maxCPU = 0.002 // of a core
)

const child = "DSO_BENCH_CHILD"

func TestIdle_MemoryAndCPU(t *testing.T) {
	if os.Getenv(child) != "" {
		t.Skip("it is this test's own child")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	assert.NilError(t, err, "%s", out)
	line := regexp.MustCompile(`bench: .*`).Find(out)
	fmt.Println(string(line))
	read := func(key string) float64 {
		found := regexp.MustCompile(key + `=([0-9.]+)`).FindSubmatch(line)
		assert.Assert(t, found != nil, "%s is not in %q", key, line)
		x, err := strconv.ParseFloat(string(found[1]), 64)
		assert.NilError(t, err)
		return x
	}
	assert.Check(t, read("rss_mb") <= maxRSS>>20)
	assert.Check(t, read("idle_cpu_percent") <= 100*maxCPU)
}

// TestChild is what is measured, in a process of its own.
func TestChild(t *testing.T) {
	if os.Getenv(child) == "" {
		t.Skip("it runs in a process of its own")
	}
	const containers, references, secrets = 1000, 2, 2000
	h := newHost(t, time.Minute)
	h.set(secrets)
	h.fill(t, 0, containers/2, references, secrets)
	stop := h.start()
	h.quiet(t, containers/2*references)
	half := rss(t)
	stop()
	h.fill(t, containers/2, containers/2, references, secrets)
	h.Boot(t)
	h.controller.Deliveries, h.controller.Current = h.Store, h.Watch
	h.controller.Machine = h.Machine
	stop = h.start()
	h.quiet(t, secrets)

	// What is measured is an agent at rest, on a real clock: its polls, and the comparison
	// of everything that there is every compareEvery. A busy machine only adds to it.
	least := func(times int, d time.Duration, first func()) float64 {
		best := math.Inf(1)
		for range times {
			before := cpu(t)
			first()
			time.Sleep(d)
			best = min(best, (cpu(t)-before).Seconds()/d.Seconds())
		}
		return best
	}
	const comparison = 5 * time.Second
	polling := least(3, 20*time.Second, func() {})
	comparing := (least(3, comparison, h.Watch.Tell) - polling) * comparison.Seconds()
	full := rss(t) // last: an agent does not give back what it needs again at its next poll
	stop()
	fmt.Printf("bench: containers=%d secrets=%d interval=1m rss_mb=%.1f growth_per_container_kb=%.1f idle_cpu_percent=%.3f of_it_polls=%.3f comparison_cpu_ms=%.0f\n",
		containers, secrets, float64(full)/(1<<20), float64(full-half)/float64(containers/2)/1024,
		100*(polling+comparing/compareEvery.Seconds()), 100*polling, 1000*comparing)
}

// quiet waits until the agent knows the versions of all secrets, and has looked at all
// containers.
func (h *host) quiet(t *testing.T, secrets int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for last := int64(-1); ; {
		now := h.Secrets.Versions.Load()
		if h.Watch.Status()[0].Secrets >= secrets && now-last < 100 {
			time.Sleep(10 * time.Second)
			return
		}
		last = now
		assert.Assert(t, time.Now().Before(deadline), "%+v", h.Watch.Status())
		time.Sleep(time.Second)
	}
}

// rss is what the process has in memory, without what could be given back.
func rss(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	assert.NilError(t, err)
	_, rest, found := bytes.Cut(status, []byte("VmRSS:"))
	kb, err := strconv.Atoi(strings.Fields(string(rest))[0])
	assert.Assert(t, found && err == nil)
	return kb << 10
}

func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	assert.NilError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
