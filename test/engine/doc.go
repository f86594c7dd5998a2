// Package testengine starts a private Docker engine for a test and removes
// every trace of it afterwards.
//
// A private engine has its own network, mount and UTS namespace, data root,
// configuration file and control group, and a second network namespace for
// clients, joined by a veth pair: an address there is "another host". Within
// the mount namespace /run is a fresh tmpfs, /var/lib a directory of its own and
// /etc an overlay, so the product is tested on its real default paths
// (/run/dso, /var/lib/dso, /etc/dso, /var/run/docker.sock) while nothing of the
// machine changes.
//
// Invariants:
//   - The engine of the machine is never asked, configured or stopped.
//   - The namespaces belong to a holder process, not to the daemon, so the
//     daemon can be killed and started again within the same ones.
//   - After [Engine.Close] no process, mount, namespace, control group or
//     directory is left, also when [Start] stopped half way.
//
// States of an engine: started (the daemon answers), down (after [Engine.Kill]
// or [Engine.Stop]; containers of a killed daemon go on running), closed.
package testengine
