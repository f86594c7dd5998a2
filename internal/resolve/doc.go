// Package resolve turns the references of one container into one consistent
// snapshot of values.
//
// Invariants:
//   - All or nothing: a snapshot has a value for every reference, or there is an
//     error that names the reference, the provider and the cause.
//   - All fields of one secret come from one version of it, and all secrets were
//     current at one and the same moment: now, or, while a store does not answer
//     or gives what is no value, when the container was last given them.
//   - One call sees one registry of providers, also while that is replaced.
//   - No error contains a value.
package resolve
