// Package testhost boots a Debian host with systemd as its first process and a real
// Docker Engine in it, in namespaces of its own, and removes every trace of it afterwards.
//
// The host's disk is an overlay over a base system that is made once (make e2e-host), so
// what a test installs outlives a boot and nothing else. A host can be switched off as a
// power cut does, or be shut down, and be booted again.
//
// Invariants:
//   - The engine and the systemd of the machine are never asked, configured or stopped.
//   - Everything inside lives in one PID namespace: when its first process is killed,
//     nothing of the host is left running.
//   - After [Host.Close] no process, mount, control group or directory is left.
package testhost
