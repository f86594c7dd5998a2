// Package webhook takes reports from outside that a secret has changed:
// POST /api/events/secret-update, for whatever store can send one.
//
// Invariants:
//   - A report says which secret to look at, and nothing else. What is read, from where
//     and with which credential is the configuration's alone; nothing of the report is
//     kept or passed on.
//   - Nothing of a report is looked at before its signature was found good: HMAC-SHA256
//     with the configured secret, over the timestamp, a dot and the body.
//   - A signature is good once. It is remembered until its timestamp has expired;
//     reports are refused rather than one of them forgotten. What was sent before the
//     receiver began is refused: nothing is remembered from then.
package webhook
