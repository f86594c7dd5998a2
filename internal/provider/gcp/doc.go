// Package gcp is the provider of Google Cloud's Secret Manager, by its REST API.
//
// Versions: the number and a hash of the moment it was made, because numbers begin at
// 1 again when a secret is deleted and made anew. Who may only access values, and not
// look at versions, gets the number alone.
//
// Credentials come from Google's default chain or from a file of Google's. A token is
// got anew shortly before it ends, and once when it is not accepted any more; what the
// credentials are made of is then read again too.
//
// Invariants:
//   - No error holds what a server said: see internal/provider/rest.
//   - One token is being got at a time, and nobody waits for it longer than his own time.
//   - A value whose checksum is not the one beside it is not a value.
package gcp
