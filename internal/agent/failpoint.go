package agent

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
)

// FailpointVariable names the environment variable that makes an agent fail at
// points of a rotation (see rotation.Points), once at each: a list such as
// "rolling/forward/gate/after=fail,rolling/back/pin/after" of points, each with
// what happens there. "kill", which is meant when nothing is said, is a crash;
// "fail" makes the step, or its record, fail; "stop" stops the process until
// somebody continues it. It is for tests; without it an agent has no such point.
const FailpointVariable = "DSO_FAILPOINT"

func failpoint(list string) func(string) error {
	if list == "" {
		return nil
	}
	var mu sync.Mutex
	left := map[string]string{}
	for item := range strings.SplitSeq(list, ",") {
		point, what, _ := strings.Cut(item, "=")
		left[point] = what
	}
	return func(point string) error {
		mu.Lock()
		what, there := left[point]
		delete(left, point)
		mu.Unlock()
		if !there {
			return nil
		}
		return failAt(point, what)
	}
}

func failAt(point, what string) error {
	switch what {
	case "", "kill":
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL); err != nil {
			return fmt.Errorf("failpoint %s: %w", point, err)
		}
		select {} // the signal takes a moment
	case "stop":
		return syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	}
	return fmt.Errorf("failpoint %s", point)
}
