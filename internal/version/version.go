// Package version holds the version of this build. The linker sets it.
package version

// Version of the programs.
var Version = "4.0.0-dev"
