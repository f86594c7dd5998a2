package agent

import (
	"context"
	"errors"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/notify"
)

// destinationsOf are those that the configuration names.
func destinationsOf(c *config.Config) []notify.Destination {
	var to []notify.Destination
	for _, n := range c.Notifications {
		d := notify.Destination{
			Name: n.Name, URL: n.URL.Read, Format: n.Format, Template: n.Template, Topics: n.Events, Timeout: n.Timeout, Attempts: n.Attempts,
		}
		if n.Secret.IsSet() {
			d.Key = n.Secret.Read
		}
		if len(d.Topics) == 0 {
			d.Topics = config.DefaultTopics
		}
		to = append(to, d)
	}
	return to
}

// openNotifier makes what tells others of what happens, as the configuration that holds
// wants it.
func (a *Agent) openNotifier() {
	a.notifier = &notify.Notifier{Events: a.events, Log: a.log, Count: a.metrics.Agent.Notification}
	a.settings.then(func(c *config.Config) {
		to := destinationsOf(c)
		for _, d := range to {
			a.metrics.Agent.Destination(d.Name)
		}
		a.notifier.Use(to)
	})
}

// TestNotifications sends a test to the destination that is named, or to all.
func (a *Agent) TestNotifications(ctx context.Context, req wire.NotifyRequest) ([]wire.NotifyResult, error) {
	results, err := a.notifier.Test(ctx, req.Name)
	if errors.Is(err, notify.ErrNoDestination) {
		return nil, &api.Error{Code: wire.CodeNotFound, Err: err, Hint: "docker dso config show lists those that there are"}
	}
	if err != nil {
		return nil, err
	}
	rows := []wire.NotifyResult{}
	for _, r := range results {
		row := wire.NotifyResult{Name: r.Name, Status: r.Status}
		if r.Err != nil {
			row.Error = r.Err.Error()
		}
		rows = append(rows, row)
	}
	return rows, nil
}
