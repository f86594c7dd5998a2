package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/vault"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/compose"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// The exit codes of every command.
const (
	ExitOK       = 0
	ExitError    = 1 // anything that is not below
	ExitUsage    = 2 // the command line is wrong
	ExitNotFound = 3 // no such secret, version or container
	ExitNoAgent  = 4 // the agent is needed and does not answer
	ExitDenied   = 5 // the caller may not do this
	ExitRotation = 6 // the secret is stored, and a container did not take it up
	// ExitUnhealthy is that of a command which looks and found something that is not as it
	// should be.
	ExitUnhealthy = 7
	// Those of inject when it cannot become the command, as a shell has them.
	ExitNotRunnable = 126
	ExitNoCommand   = 127
	// ExitInterrupted is that of a shell's command which Ctrl-C ended.
	ExitInterrupted = 130
)

// errInterrupted ends a command whose question was answered with Ctrl-C.
var errInterrupted = &coded{errors.New("interrupted; nothing was done"), ExitInterrupted}

// hinted is an error with a way out.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// Hint is the way out.
func (h *hinted) Hint() string { return h.hint }

func withHint(err error, hint string) error { return &hinted{err, hint} }

// coded is an error with an exit code of its own.
type coded struct {
	err  error
	code int
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// usageError marks a command line that is wrong.
func usageError(format string, args ...any) error {
	return &coded{fmt.Errorf(format, args...), ExitUsage}
}

// remoteCodes maps what the agent says.
var remoteCodes = map[string]int{
	"": ExitError, wire.CodeInUse: ExitError, wire.CodeNoVault: ExitError,
	wire.CodeNotFound: ExitNotFound, wire.CodeDenied: ExitDenied,
	wire.CodeInvalid: ExitUsage, wire.CodeEmpty: ExitUsage,
}

// ExitCode maps an error to the table.
func ExitCode(err error) int {
	var c *coded
	var remote *client.RemoteError
	var status cli.StatusError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &status) && status.StatusCode != 0:
		return status.StatusCode
	case errors.Is(err, client.ErrNoAgent):
		return ExitNoAgent
	case errors.Is(err, client.ErrDenied):
		return ExitDenied
	case errors.Is(err, localvault.ErrNotFound), errors.Is(err, localvault.ErrNoVersion):
		return ExitNotFound
	case isInvalid(err):
		return ExitUsage
	case errors.As(err, &remote):
		return remoteCodes[remote.Code]
	}
	return ExitError
}

// isInvalid reports whether the vault refused what it was given: what an agent
// calls "invalid" or "empty", said by the vault itself.
func isInvalid(err error) bool {
	for _, refusal := range []error{localvault.ErrEmpty, localvault.ErrTooLarge, localvault.ErrBadName, secret.ErrBadRef, vault.ErrForeign} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// PrintError writes the error and the way out.
func PrintError(w io.Writer, err error) {
	if err.Error() == "" { // the program that was run has said it all
		return
	}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i == 0 {
			_, _ = fmt.Fprintln(w, "dso: error: "+line)
		} else {
			_, _ = fmt.Fprintln(w, "            "+line)
		}
	}
	if hint := hintFor(err); hint != "" {
		_, _ = fmt.Fprintln(w, "dso: hint: "+hint)
	}
}

func hintFor(err error) string {
	var h interface{ Hint() string }
	var remote *client.RemoteError
	switch {
	case errors.As(err, &h):
		return h.Hint()
	case errors.As(err, &remote) && remote.Hint != "":
		return remote.Hint
	case errors.Is(err, client.ErrNoAgent):
		return "start it: systemctl start dso-agent (or run dso-agent)"
	case errors.Is(err, client.ErrDenied):
		return "run it as root, or become a member of the group dso"
	case errors.Is(err, localvault.ErrNoVault):
		return "docker dso init makes one"
	case errors.Is(err, secret.ErrBadRef):
		return "it is NAME, NAMESPACE/NAME or PROVIDER/PATH, of letters, digits and . _ -; a reference is dso:// before that"
	case errors.Is(err, localvault.ErrNotFound), errors.Is(err, localvault.ErrNoVersion):
		return "docker dso secret list shows what there is"
	case errors.Is(err, compose.ErrNoFile):
		return "run it in the project's directory, or name the file with -f"
	case errors.Is(err, compose.ErrFile):
		return "docker compose config shows what it makes of the files; -f names others"
	case errors.Is(err, localvault.ErrEmpty):
		return "--allow-empty stores it all the same"
	}
	return ""
}
