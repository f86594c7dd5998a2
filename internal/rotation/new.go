package rotation

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// Plan makes the entry of a new rotation. It is pure: now names what will be
// created, and nothing else depends on it.
func Plan(o Observed, from, to secret.Versions, cause string, now time.Time) (Entry, error) {
	e, err := draft(o, from, to, cause, now)
	if err != nil || !e.reloads() {
		return e, err
	}
	for _, id := range to.IDs() {
		if from[id] != to[id] && slices.Contains(o.Fixed, id) {
			return Entry{}, fmt.Errorf("%w: %s asks for dso.update.strategy=%s, and %s reaches it in its environment or at a path of its own, which stays as it was at the start; give it as a file below /run/secrets/dso, or use restart or auto",
				ErrPlan, o.Container.Name, e.Strategy, id)
		}
	}
	return e, nil
}

// Tried makes the entry of the rotation that a container's start was, without one:
// with the new versions, in place. It began with that start.
func Tried(o Observed, from, to secret.Versions, cause string, started time.Time) (Entry, error) {
	e, err := draft(o, from, to, cause, time.Now())
	if err != nil || e.Strategy == None {
		return e, err
	}
	e.Strategy, e.Tries, e.StartTime = Restart, true, started
	e.NewName, e.BackupName, e.Signal, e.Command = "", "", "", nil
	e.Reasons = []string{"it was started with versions that no rotation brought"}
	return e, nil
}

func draft(o Observed, from, to secret.Versions, cause string, now time.Time) (Entry, error) {
	strategy, reasons, err := Choose(o)
	if err != nil {
		return Entry{}, err
	}
	timing, err := TimingOf(o.Container)
	if _, turns := TurnsOf(o.Container); err != nil || turns != nil {
		return Entry{}, errors.Join(err, turns)
	}
	c := o.Container
	if strategy == None {
		to = onlyFiles(o.Files, from, to)
	}
	main := mainSecret(from, to)
	e := Entry{
		ID:                  fmt.Sprintf("%s-%d", c.ShortID(), now.Unix()),
		ProviderName:        main.Provider,
		SecretName:          main.Path,
		ContainerName:       c.Name,
		OriginalContainerID: c.ID,
		StartTime:           now.UTC(),
		LastUpdate:          now.UTC(),
		Cause:               cause,
		Strategy:            strategy,
		Phase:               Forward,
		Reasons:             reasons,
		From:                from,
		To:                  to,
		Front:               o.Front,
		Dependants:          o.Dependants,
		Ports:               o.Ports,
		Original:            c,
		Timing:              timing,
	}
	switch strategy {
	case Signal:
		e.Signal, err = signalOf(c)
	case Exec:
		e.Command, err = commandOf(c)
	case Rolling:
		e.NewName = fmt.Sprintf("%s_dso_new_%d", c.Name, now.Unix())
		e.BackupName = fmt.Sprintf("%s_dso_backup_%d", c.Name, now.Unix())
	}
	return e, err
}

// onlyFiles is to without what a refresh of the files cannot change: an environment
// stays what it was at the start.
func onlyFiles(files []secret.ID, from, to secret.Versions) secret.Versions {
	out := maps.Clone(from)
	if out == nil {
		out = secret.Versions{}
	}
	for id, v := range to {
		if slices.Contains(files, id) {
			out[id] = v
		}
	}
	return out
}

// mainSecret is the first secret that changes, or the first of all when none
// does: it gives the rotation its key in the journal.
func mainSecret(from, to secret.Versions) secret.ID {
	ids := to.IDs()
	for _, id := range ids {
		if from[id] != to[id] {
			return id
		}
	}
	if len(ids) > 0 {
		return ids[0]
	}
	return secret.ID{}
}
