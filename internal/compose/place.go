package compose

import (
	"context"
	"errors"
)

// PlaceError says where in the project something is wrong.
type PlaceError struct {
	Place string // such as "service web", or "service web, variable DB"
	Err   error
}

func (e *PlaceError) Error() string { return e.Place + ": " + e.Err.Error() }
func (e *PlaceError) Unwrap() error { return e.Err }

// at gives an error its place; one within another becomes one.
func at(place string, err error) error {
	var in *PlaceError
	if errors.As(err, &in) {
		return &PlaceError{Place: place + ", " + in.Place, Err: in.Err}
	}
	return &PlaceError{Place: place, Err: err}
}

// Check loads a project and returns everything that is wrong with it, each a
// [*PlaceError] where its place is known. Without a project it cannot be loaded at all.
func Check(ctx context.Context, opts Options) (*Project, []error) {
	p, err := read(ctx, opts)
	all := parts(err)
	if p == nil {
		return nil, all
	}
	_, err = Overlay(p, OverlayOptions{FrontImage: "front", FrontDir: "/"})
	seen := map[string]bool{}
	for _, e := range append(parts(CheckLabels(p)), parts(err)...) {
		if text := e.Error(); !seen[text] { // a service without secrets is in the first only
			seen[text] = true
			all = append(all, e)
		}
	}
	return p, all
}

// parts takes apart what errors.Join joined, and nothing that only wraps more than one.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // what it wraps is of no interest
	if !ok || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, parts(e)...)
	}
	return all
}
