package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// footprint is what an agent occupies.
type footprint struct {
	goroutines, fds, memory int // memory in KiB
}

// measure ends the agent: a Go program tells its goroutines when it gets SIGQUIT.
func (s *soak) measure(ctx context.Context) (f footprint, err error) {
	dir := fmt.Sprintf("/proc/%d/", s.lab.AgentPID())
	open, err := os.ReadDir(dir + "fd")
	if err != nil {
		return f, err
	}
	f.fds = len(open)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return f, err
	}
	for line := range bytes.Lines(status) {
		_, _ = fmt.Sscanf(string(line), "VmRSS: %d kB", &f.memory)
	}
	before, err := os.ReadFile(s.lab.AgentLog())
	if err != nil {
		return f, err
	}
	if err := syscall.Kill(s.lab.AgentPID(), syscall.SIGQUIT); err != nil {
		return f, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := s.lab.AwaitAgentEnd(ctx); err != nil {
		return f, err
	}
	after, err := os.ReadFile(s.lab.AgentLog())
	if err != nil {
		return f, err
	}
	f.goroutines = bytes.Count(after[len(before):], []byte("\ngoroutine "))
	s.say("the agent has %d goroutines, %d descriptors, %d KiB", f.goroutines, f.fds, f.memory)
	return f, nil
}
