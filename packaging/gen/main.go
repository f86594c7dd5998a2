// Command gen writes what the packages hold beside the programs: man pages and
// completions, made from the commands themselves.
//
//	go run ./packaging/gen DIR
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/docker-secret-operator/dso/internal/cli"
	"github.com/docker-secret-operator/dso/internal/durable"
	"github.com/docker-secret-operator/dso/internal/version"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: gen DIR"))
	}
	if err := generate(os.Args[1]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "gen:", err)
	os.Exit(1)
}

func generate(dir string) error {
	for _, sub := range []string{"man/man1", "man/man8", "completions"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	date, err := builtAt()
	if err != nil {
		return err
	}
	if err := manPages(filepath.Join(dir, "man"), date); err != nil {
		return err
	}
	return completions(filepath.Join(dir, "completions"))
}

// builtAt is the moment that the pages name: the build's, or the one it is to be.
func builtAt() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(seconds, 0).UTC(), err
}

func root() *cobra.Command {
	cmd := cli.New(strings.NewReader(""), io.Discard, io.Discard, false)
	cmd.DisableAutoGenTag = true
	return cmd
}

// manPages writes docker-dso(1) with a page a command, and the pages of the daemons.
func manPages(dir string, date time.Time) error {
	cmd := root()
	cmd.Use = "docker-dso"
	header := &doc.GenManHeader{Section: "1", Source: "DSO " + version.Version, Manual: "Docker Secret Operator", Date: &date}
	if err := doc.GenManTree(cmd, header, filepath.Join(dir, "man1")); err != nil {
		return err
	}
	for _, page := range []string{"dso-agent.8", "dso-runtime.8"} {
		text, err := os.ReadFile(filepath.Join("packaging", "man", page+".md"))
		if err != nil {
			return err
		}
		if err := durable.WriteFile(filepath.Join(dir, "man8", page), md2man.Render(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// completions writes those of dso. Through docker, docker's own completion asks the
// plugin.
func completions(dir string) error {
	cmd := root()
	if err := cmd.GenBashCompletionFileV2(filepath.Join(dir, "dso.bash"), true); err != nil {
		return err
	}
	if err := cmd.GenZshCompletionFile(filepath.Join(dir, "_dso")); err != nil {
		return err
	}
	return cmd.GenFishCompletionFile(filepath.Join(dir, "dso.fish"), true)
}
