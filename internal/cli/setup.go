package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/hostsetup"
)

// setupOptions are the options of setup and of bootstrap agent.
type setupOptions struct {
	hostsetup.Options
	root      string
	dryRun    bool
	yes       bool
	uninstall bool
	purge     bool
}

func (a *app) setupCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use: "setup", Short: "Make this host one that runs DSO, or take that back", Args: noArgs,
		Long: `Make this host one that runs DSO: look at it, show what is to be done, ask, and do it.
What fails is undone. A second run changes nothing.

The runtime dso is registered in the engine's daemon.json, which keeps everything that is
there; the engine reads it again and is not restarted. The agent becomes a service of
systemd, or with --container a container.

--uninstall takes everything back: daemon.json is what it was, byte for byte, unless
somebody else has changed it; then only the runtime is taken out. It is refused while
containers have the runtime. The vault and dso.yaml stay, unless --purge is given.`,
		Example: "  docker dso setup --dry-run\n  docker dso setup --yes\n  docker dso setup --default-runtime\n  docker dso setup --uninstall",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.purge && !o.uninstall {
				return usageError("--purge goes with --uninstall")
			}
			if o.uninstall {
				return a.uninstall(cmd.Context(), o)
			}
			return a.setup(cmd.Context(), o)
		},
	}
	a.setupFlags(cmd, &o)
	cmd.Flags().BoolVar(&o.uninstall, "uninstall", false, "take back what setup has done")
	cmd.Flags().BoolVar(&o.purge, "purge", false, "with --uninstall: remove the vault and the configuration too")
	return a.jsonFlag(cmd)
}

func (a *app) setupFlags(cmd *cobra.Command, o *setupOptions) {
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only show what would be done")
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.DefaultRuntime, "default-runtime", false, "let every new container use references, without runtime: dso")
	cmd.Flags().BoolVar(&o.Container, "container", false, "run the agent as a container, where there is no systemd")
	cmd.Flags().StringVar(&o.Programs, "programs", "", "the `directory` with dso-agent, dso-runtime and dso-front (default: beside this program, /usr/bin or /usr/local/bin)")
	cmd.Flags().StringVar(&o.root, "root", "", "set up the `tree` of files of a host that does not run, such as an image; nothing is started")
}

// bootstrapCommand keeps the names of version 3.5.
func (a *app) bootstrapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bootstrap", Short: "Make the local vault, or set up the host", Args: noSuchCommand, Example: "  docker dso bootstrap local\n  docker dso bootstrap agent --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	local := a.initCommand()
	local.Use, local.Short, local.Example = "local", "Make the local encrypted vault, as docker dso init does", "  docker dso bootstrap local"
	var o setupOptions
	agent := a.jsonFlag(&cobra.Command{
		Use: "agent", Short: "Set up the host, as docker dso setup does", Args: noArgs, Example: "  docker dso bootstrap agent --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setup(cmd.Context(), o) },
	})
	a.setupFlags(agent, &o)
	cmd.AddCommand(local, a.aboutThisHost(agent, "root"))
	return cmd
}

// setupReport is the JSON of docker dso setup.
type setupReport struct {
	Found   *hostsetup.Facts   `json:"found,omitempty"`
	Plan    *hostsetup.Plan    `json:"plan,omitempty"`
	Removal *hostsetup.Removal `json:"removal,omitempty"`
	Done    bool               `json:"done"` // false: only shown, or there was nothing to do
}

// installer works on the host.
func (a *app) installer(root string) *hostsetup.Host {
	h := hostsetup.New(root)
	h.Answers = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return a.agent().Call(ctx, "GET", "/v1/locks", nil, nil)
	}
	if !a.asJSON {
		h.Progress = func(what string) { _, _ = fmt.Fprintln(a.out, "  "+what) }
	}
	return h
}

func mustBeRoot(o setupOptions) error {
	if o.dryRun || o.root != "" {
		return nil
	}
	return onlyRoot("run it as root; --dry-run shows what would be done")
}

func onlyRoot(hint string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &coded{withHint(errors.New("this changes the host, which only root may do"), hint), ExitDenied}
}

func (a *app) setup(ctx context.Context, o setupOptions) error {
	if err := mustBeRoot(o); err != nil {
		return err
	}
	h := a.installer(o.root)
	if !o.dryRun {
		cut, err := h.Unfinished(ctx)
		if err != nil {
			return fmt.Errorf("undo a setup that was cut off: %w", err)
		}
		if cut && !a.asJSON {
			_, _ = fmt.Fprintln(a.out, "a setup that was cut off is undone")
		}
	}
	facts, err := h.Detect(ctx, o.Options)
	if err != nil {
		return err
	}
	plan, err := hostsetup.NewPlan(facts, o.Options)
	if err != nil {
		return err
	}
	report := setupReport{Found: &facts, Plan: &plan}
	if !a.asJSON {
		a.printPlan(plan)
	}
	if o.dryRun || len(plan.Steps) == 0 {
		_, err := a.print(report)
		return err
	}
	if !o.yes {
		if agreed, err := a.agreed("the host", "Do this?"); err != nil || !agreed {
			return err
		}
	}
	if err := h.Apply(ctx, plan); err != nil {
		return err
	}
	report.Done = true
	if done, err := a.print(report); done {
		return err
	}
	_, err = fmt.Fprint(a.out, "This host runs DSO. Next:\n  docker dso init                make the vault, if secrets are to be kept here\n  usermod -aG dso USER           let a user store and rotate secrets\n  docker dso system status       see the agent\n")
	return err
}

func (a *app) printPlan(p hostsetup.Plan) {
	if len(p.Steps) == 0 {
		_, _ = fmt.Fprintln(a.out, "nothing to do: this host is set up")
	}
	for i, s := range p.Steps {
		_, _ = fmt.Fprintf(a.out, "%2d. %s\n", i+1, s.What)
		if s.Effect == hostsetup.ReloadEngine {
			for _, line := range hostsetup.Changes(string(s.Before), string(s.Content)) {
				_, _ = fmt.Fprintln(a.out, "      "+line)
			}
		}
	}
	for _, note := range p.Notes {
		_, _ = fmt.Fprintln(a.out, "note: "+note)
	}
}

func (a *app) uninstall(ctx context.Context, o setupOptions) error {
	if err := mustBeRoot(o); err != nil {
		return err
	}
	h := a.installer(o.root)
	rm, err := h.PlanUninstall(ctx, o.purge)
	if errors.Is(err, hostsetup.ErrNotSetUp) {
		if done, printErr := a.print(setupReport{Removal: &rm}); done {
			return printErr
		}
		_, err = fmt.Fprintln(a.out, "nothing to do: "+err.Error())
		return err
	}
	if err != nil {
		return err
	}
	if !a.asJSON {
		for i, s := range rm.Steps {
			_, _ = fmt.Fprintf(a.out, "%2d. %s\n", i+1, s)
		}
		if len(rm.Kept) > 0 {
			_, _ = fmt.Fprintf(a.out, "note: %s: what is there stays, it is yours; --purge removes it\n", strings.Join(rm.Kept, ", "))
		}
	}
	if o.dryRun {
		_, err := a.print(setupReport{Removal: &rm})
		return err
	}
	if !o.yes {
		if agreed, err := a.agreed("the host", "Do this?"); err != nil || !agreed {
			return err
		}
	}
	if rm, err = h.Uninstall(ctx, o.purge); err != nil {
		return err
	}
	if done, err := a.print(setupReport{Removal: &rm, Done: true}); done {
		return err
	}
	_, err = fmt.Fprintln(a.out, "This host is what it was before.")
	return err
}
