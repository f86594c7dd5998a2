// Package search finds the value of a secret in files, in every form that programs give
// to text: as it is, quoted, escaped, in hexadecimal, in base64 at any offset. That it
// does is what its test says; a search that finds nothing is worth no more.
package search
