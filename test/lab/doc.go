// Package lab is a private engine with an agent of this repository in it: the
// ground of the demo, the end-to-end tests and the search for leaks.
//
// Invariants:
//   - Everything runs on the product's default paths, inside the private
//     engine's mount namespace.
//   - Only processes that the lab started are ever killed.
package lab
