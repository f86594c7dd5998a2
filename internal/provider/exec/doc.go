// Package exec is the provider of a program that somebody else wrote: it is asked
// over standard input and output in the protocol of docs/reference/provider-protocol.md.
//
// There is one process per provider. It is started when it is first needed, again
// when it has ended, with growing pauses when it does nothing but end, and killed
// when it leaves a question unanswered.
//
// Invariants:
//   - The program sees no variable but those that the configuration lists.
//   - What is started is what was hashed: the file stays open from one to the other.
//   - Nothing that the program writes is in an error: it says which, by a code.
package exec
