// Package vault is the provider of HashiCorp Vault and OpenBao: the KV engines,
// versions 1 and 2, and the static and dynamic roles of the database engine.
//
// A path begins with the mount (kv/app/db), unless the configuration names one. The
// value is the secret's JSON object; references take a field of it.
//
// Versions: of KV 2 the number and a hash of the moment it was written, because
// numbers begin at 1 again when a secret is deleted with its history; of KV 1, which
// has none, a keyed fingerprint; of a static role the moment its password was changed;
// of a dynamic role a hash of its lease's id.
//
// A lease is the account of one path, for whoever asks. It is renewed after two thirds of
// its life, and replaced when that is not possible any more: by then a third is left for
// the containers to change over, and the one before ends by itself. It never outlives its
// token. Leases are remembered across restarts (Memory); their values only where values
// are sealed.
//
// A token is renewed after two thirds of its life, or got anew where the method
// allows. A call that is refused asks whether the token still holds: when it does
// the secret is denied, when it does not the provider logs in again, once.
//
// Invariants:
//   - No error holds what the server said: see internal/provider/rest.
//   - One login or renewal goes on at a time, whoever waits for it; so does one lease.
//   - What is remembered of a lease is neither a value nor a credential.
package vault
