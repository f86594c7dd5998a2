// Package provider owns the contract between DSO and the stores that hold
// secrets, and the registry of the configured ones. Every implementation lies
// in a folder of its own below and passes the conformance suite in providertest.
//
// Invariants:
//   - Only provider implementations import a store's SDK.
//   - No error of a provider contains a value.
package provider
