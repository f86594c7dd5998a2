// Package watch knows the current version of each secret in use, and asks the stores
// for it as rarely as that allows.
//
// A [Source] stands before one provider: it counts the calls, keeps to the rate budget
// and has the circuit breaker. A [Watch] has a table of the secrets in use over all
// sources, and decides which of them is asked when.
//
//	table.go     what is known of each secret, and when it is asked next   pure
//	breaker.go   is the store worth a call                                 pure
//	budget.go    calls per minute                                          pure
//	source.go    one provider's calls
//	watch.go     the table with the calls that it decides on
//
// Invariants:
//   - However many containers use a secret, one call at a time asks for its version,
//     and what it answers is everybody's answer until the next poll is due.
//   - No poll is later than the longest interval, unless the store cannot be asked: its
//     breaker is open, or its budget is spent.
//   - What is known may say that nothing is to be done. What is to be done is decided
//     with [Watch.Confirm]: versions of calls that began after the container got its
//     own, all current at one and the same moment.
//   - A value is never read here. Starts read the store itself, through the Source:
//     never kept waiting by the budget, nor refused by the breaker.
package watch
