// Package seal owns the sealed last-known-good values: what each container was
// last given, encrypted at rest, so that a container starts with it while a store
// is down, and with the versions it is pinned to when their store has forgotten
// them.
//
//	sealed/                0700
//	  keys/1-HASH.key      0600, 32 bytes; .host.cred and .tpm2.cred: the same, sealed by
//	                       systemd-creds
//	  sets/CONTAINER.json  the versions that a container was last given; no value
//	  values/HASH.json     one value of one version: what it is, in the clear, and the
//	                       value under AES-256-GCM, bound to what it is; notes of the
//	                       agent's own too
//
// Invariants:
//   - A set is written after the values that it names: what a set names can be read
//     as long as its key is there.
//   - A value is removed only when no set names it, nor the caller.
//   - A value answers for exactly the secret and version it was sealed as.
//   - A key that is missing or wrong, or a damaged file, is said and costs only what
//     it concerns: nothing is removed for it, and what is given next is sealed anew.
//   - No error contains a value.
package seal
