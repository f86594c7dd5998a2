package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/user"

	"github.com/docker-secret-operator/dso/internal/api/client"
	"github.com/docker-secret-operator/dso/internal/api/vault"
	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/audit"
	"github.com/docker-secret-operator/dso/internal/localvault"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// secrets is the local vault: through the agent when one runs, so that its user's
// vault is the one; otherwise the caller's own, directly.
type secrets struct {
	agent *client.Client
	own   vault.Service
	audit string // directory of the record that is kept where no agent does; empty: none
}

func (a *app) secrets() (secrets, error) {
	dir, err := localvault.DefaultDir()
	s := secrets{
		agent: a.agent(),
		own:   vault.Service{Dir: dir, IsProvider: func(p string) bool { return p == secret.DefaultProvider }},
	}
	// Root's vault is the one that the host's agent serves, and root's word counts where the
	// agent has written. What others have at home is their own affair.
	if there, statErr := os.Stat(auditDir); os.Geteuid() == 0 && statErr == nil && there.IsDir() {
		s.audit = auditDir
	}
	return s, err
}

// recorded does something to the caller's own vault and records it as the agent would: whoever
// is shown a value is so only with a record.
func recorded[T any](s secrets, what audit.What, req wire.NameRequest, do func() (T, error), version func(T) string) func() (T, error) {
	return func() (done T, err error) {
		if s.audit == "" {
			return do()
		}
		log, _, auditErr := audit.Open(s.audit, audit.Options{}) // what was broken is in it
		if auditErr == nil {
			defer func() { _ = log.Close() }()
			done, err = do()
			auditErr = log.Append(s.record(what, req, version(done), err))
		} else if what != audit.Read {
			done, err = do()
		}
		if auditErr != nil && err == nil && what == audit.Read {
			var nothing T
			return nothing, fmt.Errorf("no value is shown without a record of it: %w", auditErr)
		}
		return done, err
	}
}

func (s secrets) record(what audit.What, req wire.NameRequest, version string, failed error) audit.Record {
	id, err := s.own.ID(req.Name, req.Project)
	if err != nil {
		id = secret.ID{Path: req.Name} // as it was typed
	}
	r := audit.Record{
		What: what, Secret: id.String(), Version: version, Why: "without an agent",
		Who: audit.Who{UID: uint32(os.Geteuid()), PID: int32(os.Getpid()), User: me()},
	}
	if failed != nil {
		r.What, r.Why = audit.Refuse, string(what)+" without an agent: "+failed.Error()
	}
	return r
}

// call asks the agent, and does it directly when there is none.
func call[T any](ctx context.Context, s secrets, method, path string, req any, direct func() (T, error)) (T, error) {
	var resp T
	err := s.agent.Call(ctx, method, path, req, &resp)
	if errors.Is(err, client.ErrNoAgent) {
		return direct()
	}
	return resp, err
}

func (s secrets) init(ctx context.Context) (wire.VaultInfo, error) {
	return call(ctx, s, http.MethodPost, "/v1/vault", nil, s.own.Init)
}

func (s secrets) set(ctx context.Context, req wire.SetRequest) (wire.VersionResponse, error) {
	named := wire.NameRequest{Name: req.Name, Project: req.Project}
	return call(ctx, s, http.MethodPut, "/v1/secret", req, recorded(s, audit.Set, named,
		func() (wire.VersionResponse, error) { return s.own.Set(ctx, req, me()) },
		func(v wire.VersionResponse) string { return v.Version }))
}

func (s secrets) get(ctx context.Context, req wire.NameRequest) (wire.ValueResponse, error) {
	return call(ctx, s, http.MethodPost, "/v1/secret/get", req, recorded(s, audit.Read, req,
		func() (wire.ValueResponse, error) { return s.own.Get(ctx, req) },
		func(v wire.ValueResponse) string { return v.Version }))
}

func (s secrets) list(ctx context.Context) ([]wire.SecretInfo, error) {
	return call(ctx, s, http.MethodGet, "/v1/secrets", nil, func() ([]wire.SecretInfo, error) { return s.own.List(ctx) })
}

func (s secrets) delete(ctx context.Context, req wire.NameRequest) error {
	_, err := call(ctx, s, http.MethodPost, "/v1/secret/delete", req, recorded(s, audit.Delete, req,
		func() (struct{}, error) { return struct{}{}, s.own.Delete(ctx, req) },
		func(struct{}) string { return "" }))
	return err
}

func (s secrets) history(ctx context.Context, req wire.NameRequest) ([]wire.SecretVersion, error) {
	return call(ctx, s, http.MethodPost, "/v1/secret/history", req, func() ([]wire.SecretVersion, error) { return s.own.History(ctx, req) })
}

func (s secrets) rollback(ctx context.Context, req wire.NameRequest) (wire.VersionResponse, error) {
	return call(ctx, s, http.MethodPost, "/v1/secret/rollback", req, recorded(s, audit.Rollback, req,
		func() (wire.VersionResponse, error) { return s.own.Rollback(ctx, req, me()) },
		func(v wire.VersionResponse) string { return v.Version }))
}

func me() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
