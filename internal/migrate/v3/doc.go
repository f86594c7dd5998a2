// Package v3 reads what version 3.5 has left on a host: its vault file and its dso.yaml.
//
// The facts about its files are from its public source
// (https://github.com/docker-secret-operator/dso, pkg/vault and pkg/config).
//
// Invariants:
//   - It reads what it is given and writes nothing: the old installation stays whole.
//   - No error quotes a value, a key or the content of a file.
package v3
