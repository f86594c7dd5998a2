// Package env is the provider of the agent's own environment, for values that its
// supervisor gives it. They change only when the agent is started again.
//
// Invariants:
//   - Only variables that begin with the configured prefix can be read.
package env
