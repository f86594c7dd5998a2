// Command address measures that names and ports do not move: clients of every kind
// send requests while a service is rotated again and again, with the agent killed in
// the middle of some, and then the ways to the service are timed against each other.
// It runs as root, from the repository; its last line is for machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/test/lab"
)

// The limits.
const (
	minFastLane = 0.98 // of the throughput of docker -p
	minFront    = 0.85
	maxSwitch   = 5 * time.Millisecond
	maxFrontMB  = 8.0
)

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{began: time.Now()}
	flag.IntVar(&b.rotations, "rotations", 50, "how many")
	flag.IntVar(&b.kills, "kills", 5, "in how many of them the agent is killed")
	flag.IntVar(&b.requests, "requests", 200_000, "how many requests there must be at least")
	flag.IntVar(&b.rate, "rate", 30, "requests per second of each client")
	flag.IntVar(&b.rounds, "rounds", 5, "how often each way is timed, in turns")
	flag.Parse()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "address: error:", err)
		return 1
	}
	for _, miss := range b.misses {
		fmt.Println("address: limit missed:", miss)
	}
	fmt.Printf("address: clients=%d rotations=%d requests=%d failed=%d fastlane_ratio=%.2f front_ratio=%.2f\n",
		len(b.clients), b.rotated, b.sent, b.failed, b.ratio("fast lane"), b.ratio("front"))
	if b.failed > 0 || len(b.misses) > 0 {
		return 1
	}
	return 0
}

type bench struct {
	rotations, kills, requests, rate, rounds int

	began    time.Time
	lab      *lab.Lab
	dir      string
	clients  []*client
	version  int // of the secret
	rotated  int
	sent     int
	failed   int
	loaded   switches  // under load
	switches switches  // and without
	decided  time.Time // the last of them
	ofFront  *commits
	ofHost   *commits
	base     *way // docker -p
	ways     []*way
	misses   []string
	cleanup  []func() // ends what was started beside the lab
}

func (b *bench) say(format string, args ...any) {
	fmt.Printf("%7.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func (b *bench) must(held bool, format string, args ...any) {
	if !held {
		b.misses = append(b.misses, fmt.Sprintf(format, args...))
	}
}

const project = `
services:
  web:
    image: ` + lab.Answerer + `
    ports: ["8080:8080", "8080:8080/udp"]
    environment: {APP_SECRET: "dso://marker", DRAIN: "300"}
    labels: {dso.monitor: 200ms, dso.drain.timeout: 1s}
    healthcheck: {interval: 30s, timeout: 20s, retries: 5}
networks:
  default: {enable_ipv6: true, ipam: {config: [{subnet: 10.88.0.0/24}, {subnet: "fd00:d50:88::/64"}]}}
`

func (b *bench) run(ctx context.Context) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if b.lab, err = lab.Open(ctx, root); err != nil {
		return err
	}
	defer func() {
		for _, end := range b.cleanup {
			end()
		}
		err = errors.Join(err, b.lab.Close())
	}()
	if err := b.bringUp(ctx, root); err != nil {
		return fmt.Errorf("%w\n%s", err, b.agentLog())
	}
	if err := b.rotateUnderLoad(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, b.agentLog())
	}
	return b.time(ctx)
}

// agentLog is the end of it.
func (b *bench) agentLog() string {
	text, _ := os.ReadFile(b.lab.AgentLog())
	lines := strings.Split(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

func (b *bench) bringUp(ctx context.Context, root string) error {
	if err := b.lab.ImportStatic(ctx, "load:test", root+"/bin/load"); err != nil {
		return err
	}
	if err := b.lab.StartAgent(ctx); err != nil {
		return err
	}
	if out, err := b.lab.DSO(ctx, "init"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var err error
	if b.dir, err = b.lab.Project("shop", project); err != nil {
		return err
	}
	if out, err := b.store(ctx); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if out, err := b.lab.DSOIn(ctx, b.dir, "", "up", "-d", "--wait"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	front, err := b.frontPid(ctx)
	if err != nil {
		return err
	}
	if b.ofFront, err = hear(front); err != nil {
		return err
	}
	if b.ofHost, err = hear(strconv.Itoa(b.lab.AgentPID())); err != nil {
		return err
	}
	b.say("a service with a front runs on a private engine (%s)", b.lab.StorageDriver())
	return nil
}

func (b *bench) marker() string { return fmt.Sprintf("v%d", b.version) }

// store sets the next version of the secret and waits for the rotation.
func (b *bench) store(ctx context.Context) (string, error) {
	b.version++
	return b.lab.DSOIn(ctx, b.dir, b.marker(), "secret", "set", "marker")
}
