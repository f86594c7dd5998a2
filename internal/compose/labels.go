package compose

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/typo"
)

// CheckLabels refuses labels of ours, on any service, that do not exist or that
// this version does not act on.
func CheckLabels(p *Project) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(p.model.Services)) {
		errs = append(errs, checkLabels("service "+name, p.model.Services[name].Labels))
	}
	return errors.Join(errs...)
}

// checkLabels refuses a label of ours, or a strategy, that does not exist or that
// this version does not act on: it would be ignored in silence.
func checkLabels(service string, labels types.Labels) error {
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case !strings.HasPrefix(l, "dso."):
		case !slices.Contains(label.Known, l):
			return fmt.Errorf("%s: unknown label %s, did you mean %s?", service, l, nearest(l, label.Known))
		case slices.Contains(label.Unsupported, l):
			return fmt.Errorf("%s: label %s is not supported by this version yet: remove it", service, l)
		}
	}
	s, ok := labels[label.Strategy]
	switch {
	case ok && !slices.Contains(label.Strategies, s):
		return fmt.Errorf("%s: unknown %s %q, did you mean %q?", service, label.Strategy, s, nearest(s, label.Strategies))
	case slices.Contains(label.UnsupportedStrategies, s):
		return fmt.Errorf("%s: %s %q is not supported by this version yet; use auto, rolling, restart or none", service, label.Strategy, s)
	}
	return nil
}

// strategyOf returns the strategy that the labels ask for.
func strategyOf(labels types.Labels) string { return cmp.Or(labels[label.Strategy], label.Auto) }

// nearest returns the known word with the smallest edit distance to word.
func nearest(word string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return typo.Distance(word, a) - typo.Distance(word, b) })
}
