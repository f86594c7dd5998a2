//go:build race

package rotation_test

// Under the race detector, which makes everything several times slower, the loops
// over all points run one case in so many; without it they run all.
const oneIn = 9
