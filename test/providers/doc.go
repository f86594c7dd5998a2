// Package providers runs the conformance suite on real servers: "make providers".
// What cannot run is red, not skipped.
package providers
