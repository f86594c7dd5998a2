// Package leak looks for the values of secrets in every place where none may
// be.
package leak
