// Package enginetest is an in-memory Docker Engine with behaviour, for the tests
// of what stands on package engine.
//
// It is a fake, not a mock: it keeps containers, names, networks, volumes and
// images, and does what a real engine was seen to do (docs/design has the list):
// a name is unique, a clone gets new anonymous volumes, a static address cannot
// be used twice, a start that fails is never tried again, and an engine that
// restarts starts again what its restart policy says.
//
// It uses the clock of package time, so that inside testing/synctest no test
// waits for anything.
package enginetest
