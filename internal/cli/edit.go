package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/docker-secret-operator/dso/internal/config"
	"github.com/docker-secret-operator/dso/internal/durable"
)

func (a *app) configEdit() *cobra.Command {
	return &cobra.Command{
		Use: "edit", Short: "Edit the configuration file; one that is not valid never takes its place", Example: "  docker dso config edit", Args: noArgs,
		Long: `Edit the configuration file with $VISUAL, $EDITOR or vi.

A copy beside it is edited, with its owner and mode. It takes the file's place when it is
valid; a running agent takes it up by itself. Otherwise the problems are shown, and on a
terminal the copy can be edited again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := config.Find(a.config)
			if errors.Is(err, config.ErrNone) {
				path, err = config.SystemFile, nil
			}
			if err != nil {
				return err
			}
			return a.edit(cmd.Context(), path)
		},
	}
}

// firstConfig is what a file begins with that is not there yet.
const firstConfig = "version: 1\n"

func (a *app) edit(ctx context.Context, path string) (err error) {
	before, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		before, err = []byte(firstConfig), nil
	}
	if err != nil {
		return err
	}
	draft, err := draftOf(path, before)
	if errors.Is(err, fs.ErrExist) {
		return withHint(fmt.Errorf("%s is there: somebody else edits the configuration, or an edit was cut off", draft), "remove it when nobody does")
	}
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.Remove(draft); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	for {
		if err := a.runEditor(ctx, draft); err != nil {
			return err
		}
		after, err := os.ReadFile(draft)
		if err != nil {
			return err
		}
		if bytes.Equal(before, after) {
			_, err = fmt.Fprintln(a.out, "nothing changed")
			return err
		}
		_, err = config.Load(draft)
		if err == nil {
			break
		}
		err = errors.New(strings.ReplaceAll(err.Error(), draft, path))
		again, interrupted := false, error(nil)
		if terminal(a.in) {
			again, interrupted = a.again(err)
		}
		if interrupted != nil {
			return interrupted
		}
		if !again {
			return withHint(fmt.Errorf("%w\n%s is unchanged", err, path), "docker dso config edit begins again")
		}
	}
	if err := durable.Rename(draft, path); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, path+" is changed; a running agent takes it up by itself")
	return err
}

// draftOf makes the copy that is edited, readable for nobody who cannot read the file.
func draftOf(path string, content []byte) (draft string, err error) {
	draft = path + ".edit"
	f, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return draft, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, statErr := os.Stat(path); statErr == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
		err = errors.Join(err, f.Chmod(info.Mode().Perm()))
	}
	if err == nil {
		_, err = f.Write(content)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(draft))
	}
	return draft, err
}

// runEditor lets the shell run the editor: $EDITOR may have options.
func (a *app) runEditor(ctx context.Context, file string) error {
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Run(); err != nil {
		return withHint(fmt.Errorf("run the editor %s: %w", editor, err), "set EDITOR")
	}
	return nil
}

// again shows what is wrong and asks whether to go on.
func (a *app) again(problem error) (bool, error) {
	PrintError(a.err, problem)
	answer, err := a.line("Edit again? [Y/n] ")
	return !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "n") && answer != "", err
}
