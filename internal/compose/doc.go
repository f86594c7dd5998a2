// Package compose owns what DSO knows of a Compose project: the references in
// its services, and the second model file that DSO lays over the user's files.
//
// The user's files are loaded with the options, and in the order of options,
// of docker compose itself, and are never changed. The overlay gives services
// that have references the runtime that resolves them, and puts a front before
// those that are rotated with two containers at once: a generated service that
// owns the published ports and the name of the service it stands before.
//
// Invariants:
//   - A project means here what it means to docker compose: same services, same
//     environment, same name, same files.
//   - The overlay is a pure function of the model, and is never part of it: when
//     it is among the configured files, it is left out before loading.
//   - No value of a variable gets into the overlay or into an error, except a
//     reference, which is no secret.
package compose
