package agent

import (
	"fmt"
	"syscall"
)

// FailpointVariable names the environment variable that makes an agent kill
// itself, as a crash would, at one point of a rotation, such as
// "rolling/forward/gate/after" (see rotation.Points). It is for tests; without it
// an agent has no such point.
const FailpointVariable = "DSO_FAILPOINT"

func failpoint(at string) func(string) error {
	if at == "" {
		return nil
	}
	return func(point string) error {
		if point != at {
			return nil
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGKILL); err != nil {
			return fmt.Errorf("failpoint %s: %w", at, err)
		}
		select {} // the signal takes a moment
	}
}
