//go:build race

package hosttest

const oneIn = 9
