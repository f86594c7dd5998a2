// Package vault carries out the API's calls about secrets on a local vault: in
// the agent for whoever asks, and in the command line itself while no agent runs.
//
// Invariants:
//   - Both ways are this code, so they cannot differ.
//   - Errors are localvault's, or wrap secret.ErrBadRef or [ErrForeign].
package vault
