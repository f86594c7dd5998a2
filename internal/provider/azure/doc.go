// Package azure is the provider of Azure Key Vault's secrets.
//
// Versions are Key Vault's own. It tells the current one with its value only: listing
// versions tells when they were made, to the second, and not which one holds.
//
// Credentials come from the environment, a workload identity or a managed identity, or
// from the configuration. When the vault does not accept them any more they are read
// anew, once.
//
// Invariants:
//   - No error holds what a server said: see rest.Outcome.
//   - The SDK does not try again: whoever calls the provider does, and knows how long.
//   - No program of a developer (az, azd, PowerShell) is asked for a credential.
package azure
