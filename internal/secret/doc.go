// Package secret owns the words every other package speaks: the reference that
// stands in a container's specification, the identity of the secret it names,
// and the value, which cannot be printed by accident.
//
// Invariants:
//   - A [Ref] is pure syntax. Which provider and namespace it means is decided
//     by [Ref.In], because that depends on the project of the container.
//   - A [Value] never shows its bytes through fmt, log/slog, JSON, text or
//     YAML; [Value.Reveal] is the only way to read them, and is easy to grep.
//   - The package imports nothing else of this module.
package secret
