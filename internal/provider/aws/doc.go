// Package aws is the provider of AWS Secrets Manager and of the SSM Parameter Store.
//
// Versions: of Secrets Manager the version id that carries AWSCURRENT; a version that
// is AWSPENDING is never taken, by whatever id it is asked for. Of the Parameter Store
// the number and a hash of the moment it was written, because numbers begin at 1 again
// when a parameter is deleted and made anew.
//
// Credentials come from the SDK's default chain or from the configuration, and a role
// is assumed with them when one is named. When the store does not accept them any
// more everything is read anew, once: a file may hold others by now.
//
// Invariants:
//   - No error holds what a server said: of an answer that is an error the code decides,
//     from a list, and its text is dropped.
//   - The SDK does not try again: whoever calls the provider does, and knows how long.
package aws
