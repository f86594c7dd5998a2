// Package load is an open-loop HTTP client that counts what a user would have
// noticed.
//
// Open loop: request n is due at start + n/rate, whether or not the earlier
// ones were answered, so a stall is counted with every request that it cost
// and not with the one that waited. A request that is late because this
// process was is sent at once; [Result.LateMS] says how late the worst was.
//
// A request fails when it is refused, reset, not answered within its timeout
// or answered with anything but 200. Nothing is retried here. In keep-alive
// mode net/http itself sends a GET again when the server had closed the idle
// connection before a byte of an answer, as browsers do.
package load
