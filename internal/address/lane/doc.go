// Package lane owns the fast lane: a table of nft rules on the host that sends what
// comes from outside straight to the container that is current, past the front. It
// is as fast as a port that Docker publishes and keeps the client's address. What a
// container that leaves still owes by UDP is in tables of the same name and owner.
//
// Nothing depends on it: whatever the lane does not take goes to the front, which
// has the published port.
//
// Invariants:
//   - The kernel removes the table when the socket that made it is closed, however
//     this process ends, and lets nobody else change or flush it (the flag "owner" of
//     nft tables, from kernel 5.12 on; without it there is no lane).
//   - The table lapses by itself when this process does not confirm it for some
//     seconds: it is stopped, or hangs.
//   - An address is in the table only while the process of its container lives. The
//     kernel itself tells of its end (pidfd), not the engine, so no other container
//     that gets the address next is ever reached.
//   - The lane takes no more than the published port would: the addresses of the
//     host that the port is bound to, one protocol, and nothing that comes from the
//     host itself or out of one of Docker's networks.
//   - In the firewall of the engine there is one rule of ours, which lets through
//     what the lane has marked. It stays when this process is killed, and says
//     nothing then. [Forget] takes it away.
package lane
