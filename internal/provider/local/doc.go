// Package local is the provider of the local vault: it reads
// internal/localvault through the contract of internal/provider.
//
// Invariants:
//   - The vault is opened when it is first needed, and again after its key was
//     replaced, so that "docker dso init" needs no restart of the agent.
//   - What only a person can mend (no vault, a damaged file, wrong modes) is a
//     permanent error with the way out in its text.
package local
