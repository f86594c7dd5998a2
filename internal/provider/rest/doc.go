// Package rest is what the providers that speak HTTP share: whom they trust, how
// much of an answer they read, and what an answer that is not a value means in the
// words of internal/provider.
//
// Invariants:
//   - No error holds anything that a server sent, a header, or the query of an
//     address: any of them may be a secret, or echo one.
//   - A redirect is never followed: it would carry the credential elsewhere.
//   - An answer is read up to [MaxBody] and no further.
package rest
