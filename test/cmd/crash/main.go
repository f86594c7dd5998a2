// Command crash runs the crash matrix: at every point of every strategy at which
// an agent can die it dies, and the next agent must finish the rotation. It does
// so on the in-memory engine with everything that may happen meanwhile, and on a
// private engine with requests running. It runs as root, from the repository,
// after "make build tools", writes docs/reference/crash-matrix.md, and its last
// line is for machines.
//
//	crash             all points in memory, every step on a real engine
//	crash -thorough   on the real engine before each effect too, and each fault at each place
//	crash -only TEXT  the points of the real engine whose name contains TEXT; writes nothing
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

const page = "docs/reference/crash-matrix.md"

func main() { os.Exit(status()) }

func status() int {
	only := flag.String("only", "", "only the points of the real engine whose name contains this")
	thorough := flag.Bool("thorough", false, "on the real engine before each effect too, and each fault at each place")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m := newMatrix(time.Now())
	m.thorough = *thorough || *only != ""
	if err := run(ctx, m, *only); err != nil {
		fmt.Fprintln(os.Stderr, "crash: error:", err)
		return 1
	}
	fmt.Println(m.line())
	if !m.good() {
		return 1
	}
	return 0
}

func run(ctx context.Context, m *matrix, only string) error {
	if only == "" {
		if err := m.runInMemory(ctx); err != nil {
			return err
		}
	}
	var points []rotation.Point
	for _, p := range rotation.Points() {
		if strings.Contains(p.String(), only) {
			points = append(points, p)
		}
	}
	if err := m.runReal(ctx, points, only); err != nil {
		return err
	}
	if only != "" {
		return nil
	}
	return os.WriteFile(page, []byte(m.page()), 0o644)
}
