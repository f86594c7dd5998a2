package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/config"
)

// validation is what "validate --json" prints.
type validation struct {
	Valid      bool                 `json:"valid"`
	Config     string               `json:"config,omitempty"`  // the file, empty when there is none
	Project    string               `json:"project,omitempty"` // empty when there is no Compose file
	Files      []string             `json:"files"`             // of Compose
	References []validatedReference `json:"references"`
	Resolved   bool                 `json:"resolved"` // whether an agent was asked about the references
	Problems   []validationProblem  `json:"problems"`
}

type validatedReference struct {
	Service   string `json:"service"`
	Variable  string `json:"variable"`
	Reference string `json:"reference"`
	Secret    string `json:"secret,omitempty"`  // as the agent understands it
	Version   string `json:"version,omitempty"` // the current one
}

type validationProblem struct {
	Where string `json:"where"` // file:line:column, service and variable, or the files
	Text  string `json:"text"`
	Hint  string `json:"hint,omitempty"`
}

func (p validationProblem) String() string {
	text := p.Text
	if p.Where != "" {
		text = p.Where + ": " + text
	}
	if p.Hint != "" {
		text += ", " + p.Hint
	}
	return text
}

func (a *app) validateCommand() *cobra.Command {
	var opts compose.Options
	var offline, resolve bool
	cmd := a.jsonFlag(&cobra.Command{
		Use: "validate", Short: "Check the configuration, the Compose files and whether every reference can be resolved", Args: noArgs,
		Long: `Check the configuration, the Compose files and whether every reference can be resolved.

It changes nothing and prints no value. Without an agent the references are checked as
far as their words go; --resolve makes a missing agent an error, --offline asks none.`,
		Example: "  docker dso validate\n  docker dso validate --compose-file compose.yaml --offline --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offline && resolve {
				return usageError("--offline and --resolve exclude each other")
			}
			v := validation{Files: []string{}, References: []validatedReference{}, Problems: []validationProblem{}}
			a.validateConfig(&v)
			a.validateProject(cmd.Context(), &v, opts)
			if !offline {
				if err := a.validateReferences(cmd.Context(), &v, resolve); err != nil {
					return err
				}
			}
			v.Valid = len(v.Problems) == 0
			return a.printValidation(v)
		},
	})
	cmd.Flags().StringArrayVarP(&opts.Files, "compose-file", "f", nil, "Compose `file`, as docker compose -f")
	cmd.Flags().StringArrayVar(&opts.Profiles, "profile", nil, "Compose profile")
	cmd.Flags().StringArrayVar(&opts.EnvFiles, "env-file", nil, "environment `file` of Compose")
	cmd.Flags().StringVarP(&opts.ProjectName, "project-name", "p", "", "name of the project")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no agent")
	cmd.Flags().BoolVar(&resolve, "resolve", false, "a missing agent is an error")
	return cmd
}

func (a *app) validateConfig(v *validation) {
	c, err := a.loadConfig()
	var bad *config.Error
	switch {
	case err == nil:
		v.Config = c.File
		a.warn(c)
	case errors.As(err, &bad):
		v.Config = bad.Problems[0].File
		for _, p := range bad.Problems {
			v.Problems = append(v.Problems, validationProblem{Where: fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column), Text: p.Text, Hint: p.Hint})
		}
	case errors.Is(err, config.ErrNone) && a.config == "":
	default:
		v.Problems = append(v.Problems, validationProblem{Where: a.config, Text: err.Error(), Hint: hintFor(err)})
	}
}

func (a *app) validateProject(ctx context.Context, v *validation, opts compose.Options) {
	p, errs := compose.Check(ctx, opts)
	if p == nil && errors.Is(errors.Join(errs...), compose.ErrNoFile) && len(opts.Files) == 0 {
		return
	}
	if p != nil {
		v.Project, v.Files = p.Name, p.ConfigFiles
		for _, s := range p.Services() {
			for _, r := range s.References {
				v.References = append(v.References, validatedReference{Service: s.Name, Variable: r.Variable, Reference: r.Ref.String()})
			}
		}
	}
	for _, err := range errs {
		v.Problems = append(v.Problems, problemOf(err, opts))
	}
}

// problemOf returns an error of a Compose project with its place, which is that of the
// files when it has none of its own.
func problemOf(err error, opts compose.Options) validationProblem {
	var placed *compose.PlaceError
	if errors.As(err, &placed) {
		return validationProblem{Where: placed.Place, Text: placed.Err.Error(), Hint: hintFor(err)}
	}
	files := opts.Files
	if found, _, failed := compose.Files(opts); failed == nil {
		files = found
	}
	return validationProblem{Where: strings.Join(files, ", "), Text: err.Error(), Hint: hintFor(err)}
}

// validateReferences asks the agent. Whether there is one matters only when the caller
// says so.
func (a *app) validateReferences(ctx context.Context, v *validation, must bool) error {
	if len(v.References) == 0 {
		return nil
	}
	req := wire.CheckRequest{Project: v.Project}
	for _, r := range v.References {
		req.References = append(req.References, r.Reference)
	}
	var results []wire.CheckResult
	if err := a.agent().Call(ctx, "POST", "/v1/references/check", req, &results); err != nil {
		if ExitCode(err) == ExitNoAgent && !must {
			return nil
		}
		return err
	}
	v.Resolved = true
	for i, r := range results[:min(len(results), len(v.References))] {
		ref := &v.References[i]
		ref.Secret, ref.Version = r.Secret, r.Version
		if r.Error != "" {
			v.Problems = append(v.Problems, validationProblem{Where: "service " + ref.Service + ", variable " + ref.Variable, Text: r.Error})
		}
	}
	return nil
}

func (a *app) printValidation(v validation) error {
	if done, err := a.print(v); done {
		if err == nil && !v.Valid {
			err = &coded{errors.New(""), ExitError}
		}
		return err
	}
	if !v.Valid {
		var errs []error
		for _, p := range v.Problems {
			errs = append(errs, errors.New(p.String()))
		}
		return errors.Join(errs...)
	}
	what := "no configuration file"
	if v.Config != "" {
		what = v.Config
	}
	project := "no Compose file here"
	if v.Project != "" {
		project = "project " + v.Project
	}
	resolved := "all can be resolved"
	if !v.Resolved {
		resolved = "not resolved: no agent was asked"
	}
	_, err := fmt.Fprintf(a.out, "valid: %s, %s, %d references (%s)\n", what, project, len(v.References), resolved)
	return err
}
