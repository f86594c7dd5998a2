// Package notify tells others, over HTTP, of what happens in the agent.
//
// Invariants:
//   - What is told is what the event log holds: no value of a secret.
//   - Each destination has a queue and a sender of its own. One that does not answer
//     delays none of the others, and never the agent.
//   - A queue is bounded. What found it full is counted, and the next message says so.
//   - A destination's address may be a credential: no error and no log line shows it.
//   - That a message could not be delivered is logged and tells nobody else.
//   - Redirects are not followed: they would send the event to wherever the answer points.
package notify
