package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/audit"
)

// auditDir is where the agent of this host writes its record.
const auditDir = "/var/lib/dso/audit"

func (a *app) auditCommand() *cobra.Command {
	var dir, secretName, container, what string
	var since time.Duration
	var last int
	cmd := a.aboutThisHost(a.jsonFlag(&cobra.Command{
		Use: "audit", Short: "List who read, set, rotated and was given which version of which secret", Args: noArgs,
		Long: `List who read, set, rotated and was given which version of which secret, and why, the
newest last. It never holds a value. It reads the files of the audit log itself, which only
root can; no agent is needed.`,
		Example: "  docker dso audit\n  docker dso audit --secret app/db_password --last 20\n  docker dso audit --what refuse --since 24h --json",
		RunE: func(*cobra.Command, []string) error {
			if what != "" && !slices.Contains(audit.Whats, audit.What(what)) {
				return usageError("--what is one of %s", whats())
			}
			rows := []audit.Record{}
			after := time.Time{}
			if since > 0 {
				after = time.Now().Add(-since)
			}
			err := audit.All(dir, func(r audit.Record) {
				switch {
				case secretName != "" && !means(secretName, r.Secret),
					container != "" && r.Container != container && r.ID != container,
					what != "" && r.What != audit.What(what),
					r.Time.Before(after):
					return
				}
				rows = append(rows, r)
				if last > 0 && len(rows) > 2*last { // the log may be long
					rows = slices.Clone(rows[len(rows)-last:])
				}
			})
			if err != nil {
				return auditError(err)
			}
			if last > 0 && len(rows) > last {
				rows = rows[len(rows)-last:]
			}
			if done, err := a.print(rows); done {
				return err
			}
			return a.table("TIME\tWHO\tWHAT\tSECRET\tVERSION\tCONTAINER\tWHY", len(rows), func(i int) string {
				r := rows[i]
				why := strings.TrimPrefix(r.Outcome+": "+r.Why, ": ")
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", r.Time.Local().Format(time.DateTime), whoText(r.Who), r.What, r.Secret, r.Version, r.Container, why)
			})
		},
	}), "dir")
	cmd.PersistentFlags().StringVar(&dir, "dir", auditDir, "`directory` of the audit log")
	nameVar(cmd.Flags(), &secretName, "secret", "only about this secret")
	nameVar(cmd.Flags(), &container, "container", "only about this container")
	nameVar(cmd.Flags(), &what, "what", "only this: "+whats())
	lengthVar(cmd.Flags(), &since, "since", "only what is younger, such as 24h")
	countVar(cmd.Flags(), &last, "last", "n", "only so many of the newest")
	completeOption(cmd, "secret", a.completeSecrets)
	completeOption(cmd, "container", a.completeContainers)
	completeOption(cmd, "what", words(strings.Split(whats(), ", ")...))
	cmd.AddCommand(a.auditVerify(&dir))
	return cmd
}

func whats() string {
	words := make([]string, len(audit.Whats))
	for i, w := range audit.Whats {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}

func whoText(w audit.Who) string {
	if w.Agent {
		return "agent"
	}
	return fmt.Sprintf("%s (uid %d, pid %d)", cmp.Or(w.User, "?"), w.UID, w.PID)
}

func auditError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &coded{withHint(err, "run it as root"), ExitDenied}
	case errors.Is(err, fs.ErrNotExist):
		return &coded{withHint(err, "no agent has run here yet; --dir names another directory"), ExitNotFound}
	}
	return err
}

func (a *app) auditVerify(dir *string) *cobra.Command {
	var expect string
	cmd := a.aboutThisHost(a.jsonFlag(&cobra.Command{
		Use: "verify", Short: "Check that nobody changed the audit log", Args: noArgs,
		Long: `Check that nobody changed the audit log: every line has the hash of its content, and names
the hash of the line before. The agent, if it runs, is asked what it wrote last. It exits 1 when the chain
is broken, and names the places.

Whoever is root can write a whole new log. Note the head that is printed somewhere else;
--expect says whether it is still part of the log.`,
		Example: "  docker dso audit verify\n  docker dso audit verify --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if expect == "" && *dir == auditDir {
				// The agent knows what it wrote last, should somebody have cut that off.
				if st, err := a.status(cmd.Context()); err == nil {
					expect = st.AuditHead
				}
			}
			rep, err := audit.Verify(*dir, expect)
			if err != nil {
				return auditError(err)
			}
			broken := error(nil)
			if len(rep.Problems) > 0 {
				broken = &coded{errors.New(""), ExitError}
			}
			if done, err := a.print(rep); done {
				return errors.Join(err, broken)
			}
			for _, p := range rep.Problems {
				_, _ = fmt.Fprintln(a.out, p)
			}
			if rep.Torn {
				_, _ = fmt.Fprintln(a.out, "the last line is not whole: it is being written, or a crash cut it off")
			}
			if rep.First > 1 {
				_, _ = fmt.Fprintf(a.out, "the records before %d were removed with their files\n", rep.First)
			}
			word := a.paint(green, "unbroken")
			if broken != nil {
				word = a.paint(red, "broken")
			}
			_, _ = fmt.Fprintf(a.out, "%s: %s in %s\n", word, plural(rep.Records, "record"), plural(rep.Files, "file"))
			if rep.Head != "" {
				_, _ = fmt.Fprintln(a.out, "head", rep.Head)
			}
			return broken
		},
	}), "dir")
	cmd.Flags().StringVar(&expect, "expect", "", "a `head` that was noted before")
	return cmd
}
