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

// checkLabels refuses a label of ours, or the text of one, that would be ignored in
// silence, or with which no container could be changed over. Its error joins one for
// each.
func checkLabels(service string, labels types.Labels) error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, at(service, fmt.Errorf(format, args...))) }
	for _, l := range slices.Sorted(maps.Keys(labels)) {
		if !strings.HasPrefix(strings.ToLower(l), "dso.") { // labels are not ours in capitals, and would be ignored
			continue
		}
		if !slices.Contains(label.Known, l) {
			wrong("unknown label %s, did you mean %s?", l, nearest(strings.ToLower(l), label.Known))
		} else if err := label.Check(l, labels[l]); err != nil {
			wrong("label %s=%q %w", l, labels[l], err)
		}
	}
	if s, ok := labels[label.Strategy]; ok && !slices.Contains(label.Strategies, s) {
		wrong("unknown %s %q, did you mean %q?", label.Strategy, s, nearest(s, label.Strategies))
	} else if err := checkReload(labels); err != nil {
		errs = append(errs, at(service, err))
	}
	if o, ok := labels[label.Order]; ok && o != label.StartFirst && o != label.StopFirst {
		wrong("%s %q must be %s or %s", label.Order, o, label.StartFirst, label.StopFirst)
	}
	return errors.Join(errs...)
}

// checkReload refuses a signal or a command that does not exist, or that the strategy
// has no use for.
func checkReload(labels types.Labels) error {
	signal, hasSignal := labels[label.Signal]
	command, hasCommand := labels[label.Exec]
	_, badSignal := label.ParseSignal(signal)
	_, _, badCommand := label.ParseCommand(command)
	s := strategyOf(labels)
	switch {
	case hasSignal && s != label.BySignal:
		return fmt.Errorf("label %s has no effect without %s=%s", label.Signal, label.Strategy, label.BySignal)
	case hasCommand && s != label.ByExec:
		return fmt.Errorf("label %s has no effect without %s=%s", label.Exec, label.Strategy, label.ByExec)
	case hasSignal && badSignal != nil:
		return fmt.Errorf("label %s=%q %w", label.Signal, signal, badSignal)
	case hasCommand && badCommand != nil:
		return fmt.Errorf("label %s %w", label.Exec, badCommand)
	case !hasCommand && s == label.ByExec:
		return fmt.Errorf("%s=%s needs a label %s, which says what to run", label.Strategy, label.ByExec, label.Exec)
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
