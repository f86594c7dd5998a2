package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// way is one way to an application that answers the same.
type way struct {
	name    string
	url     string
	rps     []float64
	p99     []float64                                // milliseconds
	ratios  []float64                                // of rps, to that of docker -p just before and after
	prepare func(ctx context.Context) error          // for all turns in a row
	filter  func(ctx context.Context, on bool) error // nil: as it is; for one turn
}

const published = "docker -p"

// turns are how often a way is timed in a row. Each is compared with those of docker -p before
// and after it, because the speed of a machine that others use too changes within seconds.
const turns = 10

// time measures every way, and says what the front costs.
func (b *bench) time(ctx context.Context) error {
	if b.rounds == 0 {
		return nil
	}
	if err := b.prepareWays(ctx); err != nil {
		return err
	}
	for range b.rounds {
		for _, w := range b.ways {
			if err := b.compare(ctx, w); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
		}
	}
	b.say("%-27s %7.0f requests per second, p99 %.2f ms", b.base.name, median(b.base.rps), median(b.base.p99))
	for _, w := range b.ways {
		low, high := quartiles(w.ratios)
		b.say("%-27s %7.0f requests per second, p99 %.2f ms, %.2f of %s, half of the turns %.2f to %.2f",
			w.name, median(w.rps), median(w.p99), b.ratio(w.name), published, low, high)
	}
	b.must(b.ratio("fast lane") >= minFastLane, "the fast lane has %.2f of %s, at least %.2f", b.ratio("fast lane"), published, minFastLane)
	b.must(b.ratio("front") >= minFront, "the front has %.2f of %s, at least %.2f", b.ratio("front"), published, minFront)
	for _, s := range []struct {
		what string
		took []time.Duration
	}{
		{"front, with the clients above", b.loaded.front}, {"fast lane, with the clients above", b.loaded.lane},
		{"front, without", b.switches.front}, {"fast lane, without", b.switches.lane},
	} {
		b.must(len(s.took) > 0, "no switch was timed of the %s", s.what)
		if len(s.took) > 0 {
			b.say("switch of the %s: median %.2f ms, longest %.2f ms, from the agent's decision to its effect", s.what, ms(median(s.took)), ms(slices.Max(s.took)))
			b.must(median(s.took) < maxSwitch, "a switch of the %s takes %s, less than %s", s.what, median(s.took), maxSwitch)
		}
	}
	mb, err := b.frontMemory(ctx)
	if err != nil {
		return err
	}
	b.say("a front has %.1f MB of memory", mb)
	b.must(mb < maxFrontMB, "a front has %.1f MB of memory, less than %.0f", mb, maxFrontMB)
	return nil
}

func (b *bench) prepareWays(ctx context.Context) error {
	there := b.lab.Address()
	// On the network of the service: what the engine has the kernel look at for each packet
	// depends on the network. A health check would be timed too.
	for _, args := range [][]string{
		{"run", "-d", "--no-healthcheck", "--name", "plain", "--network", "shop_default", "-p", "8090:8080", "-e", "APP_SECRET=plain", "answerer:test"},
		{"run", "-d", "--no-healthcheck", "--name", "direct", "--network", "shop_default", "-e", "APP_SECRET=plain", "answerer:test"},
	} {
		if out, err := b.lab.Docker(ctx, args...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	own, err := b.lab.Docker(ctx, "inspect", "-f", "{{.NetworkSettings.Networks.shop_default.IPAddress}}", "direct")
	if err != nil {
		return err
	}
	// The other host may reach the container itself.
	for _, cmd := range [][]string{
		{"iptables", "-I", "DOCKER-USER", "-d", own, "-j", "ACCEPT"},
	} {
		if out, err := b.lab.Command(ctx, cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", cmd, err, out)
		}
	}
	if out, err := b.lab.ClientCommand(ctx, "ip", "route", "add", own+"/32", "via", there).CombinedOutput(); err != nil {
		return fmt.Errorf("route: %w: %s", err, out)
	}
	proxy := b.lab.Command(context.WithoutCancel(ctx), "answerer", "splice", there+":8091", own+":8080")
	if err := proxy.Start(); err != nil {
		return err
	}
	b.cleanup = append(b.cleanup, func() { _ = proxy.Process.Kill(); _ = proxy.Wait() })
	b.base = &way{name: published, url: "http://" + there + ":8090/"}
	b.ways = []*way{
		{name: "the container's own address", url: "http://" + own + ":8080/"},
		{name: "a splice proxy", url: "http://" + there + ":8091/"},
		{name: "fast lane", url: "http://" + there + ":8080/", prepare: b.laneOn},
		{name: "front", url: "http://" + there + ":8080/", prepare: b.laneOff},
		{name: "front, bridge unfiltered", url: "http://" + there + ":8080/", prepare: b.laneOff, filter: b.filterBridges},
	}
	return nil
}

// filterBridges says whether what stays on a bridge passes the host's firewall too, as with a
// front behind one. Engines before 27.3 turn it on; later ones only where --icc=false or
// --userland-proxy=false needs it (moby pull requests 48492 and 48676).
func (b *bench) filterBridges(ctx context.Context, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	out, err := b.lab.Command(ctx, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+value).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sysctl: %w: %s", err, out)
	}
	return nil
}

func (b *bench) laneOn(ctx context.Context) error  { return b.lane(ctx, true) }
func (b *bench) laneOff(ctx context.Context) error { return b.lane(ctx, false) }

// lane waits until the service is reached by the fast lane, or by its front: without
// an agent there is no lane.
func (b *bench) lane(ctx context.Context, on bool) error {
	if b.lab.AgentRuns() != on {
		var err error
		if on {
			err = b.lab.StartAgent(ctx)
		} else {
			err = b.lab.KillAgent()
		}
		if err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		out, err := b.lab.ClientCommand(ctx, "answerer", "get", "http://"+b.lab.Address()+":8080/client").Output()
		if err == nil && (strings.TrimSpace(string(out)) == "10.231.0.2") == on {
			return b.idle(ctx, on)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("the requests do not go this way")
}

// idle waits until an agent that has just started has nothing more to do: it looks through
// the flows that the clients left, and a small machine would be timed with that.
func (b *bench) idle(ctx context.Context, runs bool) error {
	const look, ticks = 500 * time.Millisecond, 1 // of 10 ms: two percent of a core
	before, deadline := -ticks-1, time.Now().Add(30*time.Second)
	for runs {
		used, err := cpuTicks(b.lab.AgentPID())
		if err != nil || used-before <= ticks {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent uses %d ms of processor time in %s and does not come to rest", 10*(used-before), look)
		}
		before = used
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// cpuTicks is the processor time of a process, proc(5), utime and stime.
func cpuTicks(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("process %d has the state %q", pid, stat)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return user + system, errors.Join(err1, err2)
}

var (
	rpsLine = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	p99Line = regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s)`)
)

// compare times a way in turns with docker -p.
func (b *bench) compare(ctx context.Context, w *way) error {
	if w.prepare != nil {
		if err := w.prepare(ctx); err != nil {
			return err
		}
	}
	before, err := b.timeOnce(ctx, b.base)
	if err != nil {
		return err
	}
	for range turns {
		rps, err := b.timeOnce(ctx, w)
		if err != nil {
			return err
		}
		after, err := b.timeOnce(ctx, b.base)
		if err != nil {
			return err
		}
		w.ratios = append(w.ratios, rps/((before+after)/2))
		before = after
	}
	return nil
}

// timeOnce returns requests per second.
func (b *bench) timeOnce(ctx context.Context, w *way) (float64, error) {
	if w.filter != nil {
		if err := w.filter(ctx, false); err != nil {
			return 0, err
		}
	}
	out, err := b.lab.ClientCommand(ctx, "wrk", "-t1", "-c16", "-d1s", "--latency", w.url).CombinedOutput()
	if w.filter != nil {
		err = errors.Join(err, w.filter(ctx, true))
	}
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	rps, p99 := rpsLine.FindStringSubmatch(string(out)), p99Line.FindStringSubmatch(string(out))
	if rps == nil || p99 == nil || strings.Contains(string(out), "Socket errors") {
		return 0, fmt.Errorf("wrk: %s", out)
	}
	r, err1 := strconv.ParseFloat(rps[1], 64)
	d, err2 := time.ParseDuration(p99[1] + p99[2])
	w.rps, w.p99 = append(w.rps, r), append(w.p99, ms(d))
	return r, errors.Join(err1, err2)
}

// ratio is the throughput of a way, of that of docker -p next to it: the mean of the middle
// half of all turns.
func (b *bench) ratio(name string) float64 {
	i := slices.IndexFunc(b.ways, func(w *way) bool { return w.name == name })
	if i < 0 || len(b.ways[i].ratios) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(b.ways[i].ratios))
	middle, sum := sorted[len(sorted)/4:len(sorted)-len(sorted)/4], 0.0
	for _, r := range middle {
		sum += r
	}
	return sum / float64(len(middle))
}

func quartiles(all []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/4], sorted[len(sorted)-1-len(sorted)/4]
}

func (b *bench) frontPid(ctx context.Context) (string, error) {
	return b.lab.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", "shop-web-front-1")
}

// frontMemory is the resident memory of the front's process, in MB.
func (b *bench) frontMemory(ctx context.Context) (float64, error) {
	pid, err := b.frontPid(ctx)
	if err != nil {
		return 0, err
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("no VmRSS in the status of process %s", pid)
	}
	kb, err := strconv.ParseFloat(string(m[1]), 64)
	return kb / 1024, err
}

func median[T float64 | time.Duration](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
