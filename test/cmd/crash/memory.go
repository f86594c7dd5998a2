package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// pointName finds the point in the name of a test of internal/rotation.
var pointName = regexp.MustCompile(`/((?:rolling|restart|signal|exec|none)/(?:forward|back|adopt|recreate|yield)/[a-z-]+/(?:recorded|before|after))`)

// runInMemory runs the loops over all points, of internal/rotation and, with three
// replicas, of internal/reconcile, and counts what they report.
func (m *matrix) runInMemory(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-json", "-run", "^TestMachine_|^TestRescue_|^TestHold_Replicas", "./internal/rotation/", "./internal/reconcile/")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run the in-memory matrix: %w", err)
	}
	if err := m.countTests(bytes.NewReader(out)); err != nil {
		return err
	}
	if missing := m.missing(); len(missing) > 0 {
		return fmt.Errorf("the in-memory matrix does not reach %s", strings.Join(missing, ", "))
	}
	tried, passed, _ := m.totals()
	m.say("in memory: %d of %d deaths, errors and stops survived", passed, tried)
	return nil
}

// countTests reads what go test -json prints.
func (m *matrix) countTests(r io.Reader) error {
	for dec := json.NewDecoder(r); ; {
		var event struct{ Action, Test, Output string }
		err := dec.Decode(&event)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the in-memory matrix: %w", err)
		}
		found := pointName.FindStringSubmatch(event.Test)
		if found == nil || event.Action != "pass" && event.Action != "fail" {
			continue
		}
		of(m.memory, found[1]).add(event.Action == "pass")
		if event.Action == "fail" {
			m.say("in memory: FAILED %s", event.Test)
		}
	}
}
