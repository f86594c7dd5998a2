package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/seal"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// goodNote is the name under which the last good configurations are sealed: they may hold
// credentials.
const goodNote = "configuration"

// keepGoods is how many of them are kept.
const keepGoods = 10

// goods are the last good configurations, the newest first.
type goods struct {
	Versions []good `json:"versions"`
}

// good is a configuration that was taken.
type good struct {
	File    string    `json:"file"`
	Taken   time.Time `json:"taken"`
	Content []byte    `json:"content"`
}

// keepGood seals the configuration that holds, for an agent that starts on a bad file.
// Without one there is nothing to go back to.
func (s *settings) keepGood(c *config.Config, now time.Time) {
	n, ok := s.sealed.(notes)
	if !ok {
		return
	}
	if err := keepGood(n, c, now); err != nil {
		s.log.Warn("configuration not sealed: an agent that starts on a bad file will have no last good one", "file", c.File, "error", err)
	}
}

func keepGood(n notes, c *config.Config, now time.Time) error {
	if c.File == "" {
		return n.Note(goodNote, nil)
	}
	before, err := goodOnes(n)
	if err == nil && before[0].File == c.File && c.Source().Equal(secret.NewValue(before[0].Content)) {
		return nil
	}
	all := append([]good{{File: c.File, Taken: now.UTC(), Content: c.Source().Reveal()}}, before...)
	data, err := json.Marshal(goods{all[:min(len(all), keepGoods)]})
	if err != nil {
		return err
	}
	return n.Note(goodNote, data)
}

// goodOnes returns at least one configuration, or an error.
func goodOnes(n notes) ([]good, error) {
	sealed, err := n.Noted(goodNote)
	if err != nil {
		return nil, err
	}
	var file struct {
		goods
		good // of an agent that kept one only
	}
	if err := json.Unmarshal(sealed.Reveal(), &file); err != nil {
		return nil, errors.New("it is damaged")
	}
	if file.File != "" {
		return []good{file.good}, nil
	}
	if len(file.Versions) == 0 {
		return nil, errors.New("it is damaged")
	}
	return file.Versions, nil
}

// ConfigVersions lists the last good configurations, the newest first.
func (a *Agent) ConfigVersions(context.Context) ([]wire.ConfigVersion, error) {
	all, err := a.goodOnes()
	rows := []wire.ConfigVersion{}
	for i, g := range all {
		rows = append(rows, wire.ConfigVersion{Number: i + 1, File: g.File, Taken: g.Taken})
	}
	return rows, err
}

// ConfigVersion returns one of them as it was written.
func (a *Agent) ConfigVersion(_ context.Context, req wire.ConfigVersion) (wire.ConfigVersion, error) {
	all, err := a.goodOnes()
	if err != nil {
		return req, err
	}
	if req.Number < 1 || req.Number > len(all) {
		return req, &api.Error{
			Code: wire.CodeNotFound, Err: fmt.Errorf("there is no version %d of the configuration", req.Number),
			Hint: "docker dso config history lists those that are kept",
		}
	}
	g := all[req.Number-1]
	return wire.ConfigVersion{Number: req.Number, File: g.File, Taken: g.Taken, Content: g.Content}, nil
}

func (a *Agent) goodOnes() ([]good, error) {
	if a.sealed == nil {
		return nil, nil
	}
	all, err := goodOnes(a.sealed)
	if errors.Is(err, seal.ErrNotSealed) {
		return nil, nil
	}
	return all, err
}

// noGood is why an agent does not start on a file that cannot be used.
type noGood struct {
	bad error // about the file
	why error // about the last good one
}

func (e *noGood) Error() string { return e.bad.Error() }
func (e *noGood) Unwrap() error { return e.bad }

// Hint says why the last good configuration is not taken instead.
func (e *noGood) Hint() string {
	return "there is no last good configuration to start with: " + e.why.Error()
}

// restoreGood takes the last good configuration in the place of the file, which cannot
// be used, and the sealed values with it.
func (a *Agent) restoreGood() error {
	refuse := func(why error) error { return &noGood{bad: a.cfg.Bad, why: why} }
	s, problems, err := seal.Reopen(context.Background(), a.state("sealed"))
	if errors.Is(err, seal.ErrNotSealed) {
		return refuse(errors.New("no agent has sealed one here, or agent.seal was off"))
	}
	if err != nil {
		return refuse(err)
	}
	for _, p := range problems {
		a.log.Warn("sealed values", "error", p)
	}
	all, err := goodOnes(s)
	if errors.Is(err, seal.ErrNotSealed) {
		return refuse(errors.New("none is sealed"))
	}
	if err != nil {
		return refuse(err)
	}
	last := all[0]
	if path, err := config.Find(a.cfg.ConfigFile); err != nil || path != last.File {
		return refuse(fmt.Errorf("the sealed one is of %s", last.File))
	}
	if a.cfg.Loaded, err = config.Parse(last.File, secret.NewValue(last.Content)); err != nil {
		return refuse(fmt.Errorf("the one of %s cannot be used any more: %w", last.Taken.Format(time.RFC3339), err))
	}
	for _, text := range problemTexts(a.cfg.Bad) {
		a.log.Error("configuration cannot be used, the last good one holds", "taken", last.Taken, "error", text)
	}
	a.sealed = s
	return nil
}

// problemTexts are the problems of a configuration, one by one.
func problemTexts(err error) []string {
	var problems *config.Error
	if !errors.As(err, &problems) {
		return []string{err.Error()}
	}
	texts := make([]string, len(problems.Problems))
	for i, p := range problems.Problems {
		texts[i] = p.String()
	}
	return texts
}
