// Package localvault owns the local encrypted store: a directory with one key
// and one age file per secret, for machines that have no other store.
//
//	~/.dso/              0700
//	  key.txt            0600, an age identity (post-quantum hybrid)
//	  lock               held while somebody writes
//	  secrets/           0700
//	    app~db.age       the secret app/db with its history
//
// The age command can read it: age -d -i key.txt secrets/app~db.age.
//
// Invariants:
//   - A version number of a secret is never used for two values, not even after
//     the secret was deleted and set again: a deletion is a version of its own.
//   - A file is replaced whole and durably or not at all, and writers in other
//     processes are waited for, so no write is lost. Readers take no lock.
//   - A file that cannot be read (damaged, swapped, another key, a newer format)
//     is an error that names it and the way out; it is never written over.
//   - A key or a directory that others could read is refused.
//   - No error contains a value.
package localvault
