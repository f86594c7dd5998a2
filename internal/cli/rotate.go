package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/wire"
)

// followOptions say whether a command waits for the rotations it causes.
type followOptions struct {
	noWait bool
}

func (o *followOptions) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "do not wait for the containers to change over")
}

// changeReport is the JSON of a command that changes a secret.
type changeReport struct {
	wire.VersionResponse
	Rotations []wire.RotateResult `json:"rotations"`
}

// follow reports a new version and, unless told otherwise, waits until every
// container that uses the secret has it.
func (a *app) follow(ctx context.Context, resp wire.VersionResponse, what, cause string, o followOptions) error {
	if !a.asJSON {
		_, _ = fmt.Fprintln(a.out, what)
	}
	if o.noWait {
		_, err := a.print(changeReport{resp, nil})
		return err
	}
	results, err := a.agent().Rotate(ctx, wire.RotateRequest{Secret: resp.Name, Cause: cause}, a.steps())
	if errors.Is(err, client.ErrNoAgent) {
		if done, err := a.print(changeReport{resp, nil}); done {
			return err
		}
		_, err := fmt.Fprintln(a.out, "no agent is running: what uses the secret changes over when one starts")
		return err
	}
	if err != nil {
		return &coded{fmt.Errorf("%s version %s is stored, but: %w", resp.Name, resp.Version, err), ExitRotation}
	}
	if done, err := a.print(changeReport{resp, results}); done {
		return errors.Join(err, failed(results))
	}
	return a.report(results)
}

func (a *app) rotateCommand() *cobra.Command {
	var follow followOptions
	cmd := &cobra.Command{
		Use: "rotate CONTAINER|SECRET", ValidArgsFunction: a.completeContainersAndSecrets, Short: "Change a container, or all that use a secret, over to the current versions", Args: exactArgs(1),
		Long: `Change a container, or all that use a secret, over to the current versions, also
when they have them already or are pinned, by a person or because these versions failed before.

A name with a slash is a secret's; another one is a container's if there is such a
container, otherwise a secret's of the working directory's Compose project.`,
		Example: "  docker dso rotate shop-web-1\n  docker dso rotate app/db_password",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			req, err := a.rotateTarget(ctx, args[0])
			if err != nil {
				return err
			}
			req.NoWait = follow.noWait
			results, err := a.agent().Rotate(ctx, req, a.steps())
			if err != nil {
				return err
			}
			if done, err := a.print(results); done {
				return errors.Join(err, failed(results))
			}
			if follow.noWait {
				_, err := fmt.Fprintln(a.out, "begun; docker dso rotations shows how it goes")
				return err
			}
			return a.report(results)
		},
	}
	follow.flags(cmd)
	return a.jsonFlag(cmd)
}

// rotateTarget decides whether the name is a container's or a secret's.
func (a *app) rotateTarget(ctx context.Context, name string) (wire.RotateRequest, error) {
	req := wire.RotateRequest{Force: true, Cause: "requested"}
	if strings.ContainsAny(name, "/:") {
		var err error
		req.Secret, req.Project, err = secretNamed(ctx, name)
		return req, err
	}
	var st wire.Status
	if err := a.agent().Call(ctx, "GET", "/v1/status", nil, &st); err != nil {
		return req, err
	}
	for _, c := range st.Containers {
		if c.Name == name || c.ID == name || len(name) >= 4 && strings.HasPrefix(c.ID, name) {
			req.Container = c.Name
			return req, nil
		}
	}
	var err error
	req.Secret, req.Project, err = secretNamed(ctx, name)
	return req, err
}

// steps returns what shows the steps of a rotation as they happen: one line that
// is rewritten on a terminal, plain lines elsewhere, nothing with --json.
func (a *app) steps() func(wire.RotateStep) {
	if a.asJSON {
		return func(wire.RotateStep) {}
	}
	live := a.rewrites()
	begun := map[string]time.Time{}
	return func(s wire.RotateStep) {
		if begun[s.Rotation].IsZero() {
			begun[s.Rotation] = s.Time
		}
		line := fmt.Sprintf("%s  %s  %5.1fs  %s", s.Container, s.Strategy, s.Time.Sub(begun[s.Rotation]).Seconds(), stepText(s))
		if !live {
			_, _ = fmt.Fprintln(a.out, line)
			return
		}
		showLive(a.out, line, s.Step == "")
	}
}

// showLive rewrites the terminal's current line, and keeps it when it is last.
func showLive(w io.Writer, line string, last bool) {
	end := ""
	if last {
		end = "\n"
	}
	_, _ = fmt.Fprint(w, "\r\x1b[2K"+line+end)
}

func stepText(s wire.RotateStep) string {
	switch {
	case s.Step == "" && s.Detail != "":
		return strings.ReplaceAll(s.Outcome, "_", " ") + ": " + s.Detail
	case s.Step == "":
		return strings.ReplaceAll(s.Outcome, "_", " ")
	case s.Phase != "forward":
		return s.Phase + ": " + s.Step
	}
	return s.Step
}

// report prints how it ended for each container; its error says that it did not
// end well for all.
func (a *app) report(results []wire.RotateResult) error {
	if len(results) == 0 {
		_, err := fmt.Fprintln(a.out, "no running container uses it")
		return err
	}
	for _, r := range results {
		line := "has the current version"
		switch {
		case r.Outcome == "rotated":
			line = fmt.Sprintf("rotated (%s: %s)", r.Strategy, strings.Join(r.Reasons, "; "))
		case r.Outcome == "adopted":
			line = "rotated: the original was missing, and its replacement has the place"
		case r.Outcome != "":
			line = strings.ReplaceAll(r.Outcome, "_", " ") + ": " + r.Error
		case r.Error != "":
			line = r.Error
		}
		if r.Note != "" {
			line += "; " + r.Note
		}
		_, _ = fmt.Fprintf(a.out, "%s: %s\n", r.Container, line)
	}
	return failed(results)
}

func failed(results []wire.RotateResult) error {
	var names []string
	for _, r := range results {
		if r.Error != "" {
			names = append(names, r.Container)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return &coded{
		withHint(fmt.Errorf("not changed over: %s", strings.Join(names, ", ")), "docker dso status shows what they have and why"),
		ExitRotation,
	}
}
