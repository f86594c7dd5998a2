package compose

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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

// checkLabels refuses a label of ours, or a strategy, that does not exist: it would
// be ignored in silence.
func checkLabels(service string, labels types.Labels) error {
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		switch {
		case !strings.HasPrefix(l, "dso."):
		case !slices.Contains(label.Known, l):
			return fmt.Errorf("%s: unknown label %s, did you mean %s?", service, l, nearest(l, label.Known))
		}
	}
	if s, ok := labels[label.Strategy]; ok && !slices.Contains(label.Strategies, s) {
		return fmt.Errorf("%s: unknown %s %q, did you mean %q?", service, label.Strategy, s, nearest(s, label.Strategies))
	}
	if o, ok := labels[label.Order]; ok && o != label.StartFirst && o != label.StopFirst {
		return fmt.Errorf("%s: %s %q must be %s or %s", service, label.Order, o, label.StartFirst, label.StopFirst)
	}
	return checkReload(service, labels)
}

// checkReload refuses a signal or a command that does not exist, or that the strategy
// has no use for.
func checkReload(service string, labels types.Labels) error {
	signal, hasSignal := labels[label.Signal]
	command, hasCommand := labels[label.Exec]
	_, badSignal := label.ParseSignal(signal)
	_, _, badCommand := label.ParseCommand(command)
	s := strategyOf(labels)
	switch {
	case hasSignal && s != label.BySignal:
		return fmt.Errorf("%s: label %s has no effect without %s=%s", service, label.Signal, label.Strategy, label.BySignal)
	case hasCommand && s != label.ByExec:
		return fmt.Errorf("%s: label %s has no effect without %s=%s", service, label.Exec, label.Strategy, label.ByExec)
	case hasSignal && badSignal != nil:
		return fmt.Errorf("%s: label %s=%q %w", service, label.Signal, signal, badSignal)
	case hasCommand && badCommand != nil:
		return fmt.Errorf("%s: label %s %w", service, label.Exec, badCommand)
	}
	return nil
}

// strategyOf returns the strategy that the labels ask for.
func strategyOf(labels types.Labels) string {
	return label.StrategyOf(func(l string) string { return labels[l] })
}

// adopt gives a service the labels that its deploy.update_config stands for, unless
// it has them itself. Compose alone does not act on that section.
func adopt(s types.ServiceConfig) (types.ServiceConfig, map[string]string) {
	given := map[string]string{}
	if s.Deploy == nil || s.Deploy.UpdateConfig == nil {
		return s, given
	}
	u := s.Deploy.UpdateConfig
	give := func(l, value string) {
		if _, own := s.Labels[l]; !own {
			given[l] = value
		}
	}
	if u.Parallelism != nil {
		give(label.AtOnce, strconv.FormatUint(*u.Parallelism, 10))
	}
	if u.Delay > 0 {
		give(label.Delay, u.Delay.String())
	}
	if u.Order != "" {
		give(label.Order, u.Order)
	}
	if u.Monitor > 0 {
		give(label.Monitor, u.Monitor.String())
	}
	labels := types.Labels{}
	maps.Copy(labels, s.Labels)
	maps.Copy(labels, given)
	s.Labels = labels
	return s, given
}

// nearest returns the known word with the smallest edit distance to word.
func nearest(word string, known []string) string {
	return slices.MinFunc(known, func(a, b string) int { return typo.Distance(word, a) - typo.Distance(word, b) })
}
