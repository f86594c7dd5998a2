// Package frontimage owns the image that fronts run: one file, dso-front, packed
// on the spot so that no registry is needed.
//
// Invariants:
//   - The same binary makes the same bytes, so that an image that is there already
//     is recognised by its tag and never loaded twice.
//   - The tag is made of the binary's digest: another binary never takes the name
//     of the one that running fronts were created from.
package frontimage
