// Package label owns the labels of DSO on containers and services, and the names
// of the strategies, which are the value of one of them.
package label

// Labels that users write.
const (
	Reloader  = "dso.reloader"           // "false": the containers are never changed over
	Strategy  = "dso.update.strategy"    // one of the strategies
	Health    = "dso.health.timeout"     // a duration: the longest wait for the health gate
	Drain     = "dso.drain.timeout"      // a duration: the longest wait for old connections
	Monitor   = "dso.monitor"            // a duration: the shortest watch after the cut-over
	Signal    = "dso.update.signal"      // of the strategy signal: what is sent
	Exec      = "dso.update.exec"        // of the strategy exec: what is run
	AtOnce    = "dso.update.parallelism" // a number: how many replicas change at once; 0: all
	Delay     = "dso.update.delay"       // a duration: the pause before the next ones
	Order     = "dso.update.order"       // start-first or stop-first; chooses the strategy, where that is auto
	Secrets   = "dso.secrets"            // names of the configuration's secrets, with commas: they are given to the container
	HostPorts = "dso.host_ports"         // ports of the host that lead to the service
)

// Labels that DSO writes.
const (
	ComposePath  = "dso.compose.path"   // the first Compose file, absolute
	Front        = "dso.front"          // on a container behind a front: the front's service
	FrontService = "dso.front.service"  // on a front: the service behind it
	Rotation     = "dso.rotation"       // the id of the rotation that made this container
	Entry        = "dso.rotation.entry" // what the journal says of that rotation, should the journal be lost
	Image        = "dso.image"          // the image as the user named it, when that name has moved on
)

// Known lists the labels that may stand in a Compose file.
var Known = []string{Reloader, Strategy, Signal, Exec, AtOnce, Delay, Order, Health, Drain, Monitor, Secrets, HostPorts, ComposePath, Front, FrontService}
