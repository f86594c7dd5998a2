//go:build !race

package rotation_test

const oneIn = 1
