// Package config owns dso.yaml: what may stand in it, what it means, and the
// JSON schema that an editor checks it with.
//
// Reading is strict, in this order: parse, expand ${VAR} in scalars, decode into
// the structs of config.go, fill in defaults, validate. Everything that is wrong is
// found in one go, each problem with its line and column.
//
// Invariants:
//   - A key that has no effect is refused. The keys of the format that this version
//     does not act on yet carry the tag pending: they are checked like the others,
//     appear in the schema as forbidden, and using one is a problem that says so. A
//     file that loads is therefore a file of which every line does something.
//   - ${VAR} cannot change the structure: it is expanded in parsed scalars, so a
//     value with a newline, a colon or a quote is just that value.
//   - A credential is a [Credential]. It is not printed by anything, problems and
//     [Config.Show] included, and problems quote what the file says, never what a
//     variable expanded to.
//   - A file that others can read and that holds a credential is refused, as is one
//     that others can write.
//   - The package links no provider: the command line uses it.
package config
