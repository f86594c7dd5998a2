package agent

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// HardenProcess keeps the values in this process's memory out of core dumps and
// away from debuggers of other users. Call it before any value is read.
func HardenProcess() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process undumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// LockMemory keeps the memory of this process, and with it every value in it, from being
// swapped out. Pages are locked as they are used, so this costs no memory. Where it is not
// allowed (CAP_IPC_LOCK in the unit allows it) the error says so.
func LockMemory() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock the memory of the process: %w", err)
	}
	return nil
}
