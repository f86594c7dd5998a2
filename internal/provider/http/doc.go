// Package http is the provider of an HTTP endpoint that answers with JSON, or with
// the value itself.
//
// The version is, in this order: what the configuration points to in the answer,
// the ETag, a keyed fingerprint of the value. With an ETag a comparison costs no
// value: the endpoint answers 304.
package http
