package providers

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/gcp"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// secretManager is the official stub with a store behind it, and in front of it the
// mapping to HTTP of its definition: what goes over the wire is what Google's own
// types become.
type secretManager struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer

	mu     sync.Mutex
	values map[string][][]byte
	times  map[string][]time.Time
	clock  time.Time
}

func newSecretManager() *secretManager {
	return &secretManager{values: map[string][][]byte{}, times: map[string][]time.Time{}, clock: time.Now()}
}

const gcpParent = "projects/shop/locations/europe-west3/secrets/"

func (s *secretManager) put(name string, value []byte) secret.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(time.Microsecond)
	s.values[name] = append(s.values[name], value)
	s.times[name] = append(s.times[name], s.clock)
	text, _ := protojson.Marshal(timestamppb.New(s.clock))
	sum := sha256.Sum256([]byte(strings.Trim(string(text), `"`)))
	return secret.Version(fmt.Sprintf("%d-%x", len(s.values[name]), sum[:3]))
}

// find returns the number of a version by its full name.
func (s *secretManager) find(full string) (name string, n int, err error) {
	name, number, _ := strings.Cut(strings.TrimPrefix(full, gcpParent), "/versions/")
	n, bad := strconv.Atoi(number)
	if number == "latest" {
		n, bad = len(s.values[name]), nil
	}
	if bad != nil || n < 1 || n > len(s.values[name]) {
		return "", 0, status.Error(codes.NotFound, providertest.Canary)
	}
	return name, n, nil
}

func (s *secretManager) GetSecretVersion(_ context.Context, r *secretmanagerpb.GetSecretVersionRequest) (*secretmanagerpb.SecretVersion, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, n, err := s.find(r.Name)
	if err != nil {
		return nil, err
	}
	return &secretmanagerpb.SecretVersion{
		Name: fmt.Sprintf("%s%s/versions/%d", gcpParent, name, n), CreateTime: timestamppb.New(s.times[name][n-1]), State: secretmanagerpb.SecretVersion_ENABLED,
	}, nil
}

func (s *secretManager) AccessSecretVersion(_ context.Context, r *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, n, err := s.find(r.Name)
	if err != nil {
		return nil, err
	}
	value := s.values[name][n-1]
	sum := int64(crc32.Checksum(value, crc32.MakeTable(crc32.Castagnoli)))
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: fmt.Sprintf("%s%s/versions/%d", gcpParent, name, n), Payload: &secretmanagerpb.SecretPayload{Data: value, DataCrc32C: &sum},
	}, nil
}

func (s *secretManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/token" {
		_ = json.NewEncoder(w).Encode(o{"access_token": providertest.Canary, "expires_in": 3600, "token_type": "Bearer"})
		return
	}
	var m proto.Message
	var err error
	name := strings.TrimPrefix(r.URL.Path, "/v1/")
	if full, access := strings.CutSuffix(name, ":access"); access {
		m, err = s.AccessSecretVersion(r.Context(), &secretmanagerpb.AccessSecretVersionRequest{Name: full})
	} else {
		m, err = s.GetSecretVersion(r.Context(), &secretmanagerpb.GetSecretVersionRequest{Name: name})
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer "+providertest.Canary:
		w.WriteHeader(http.StatusUnauthorized)
	case err != nil:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(o{"error": o{"code": 404, "status": "NOT_FOUND", "message": status.Convert(err).Message()}})
	default:
		text, _ := protojson.Marshal(m)
		_, _ = w.Write(text)
	}
}

func openGCP(t *testing.T, proxy *providertest.Proxy) *gcp.Provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	assert.NilError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	assert.NilError(t, err)
	file, err := json.Marshal(o{
		"type": "service_account", "private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "dso@shop.iam.gserviceaccount.com", "token_uri": proxy.URL + "/token",
	})
	assert.NilError(t, err)
	p, err := gcp.New("gcp", gcp.Config{
		Project: "shop", Location: "europe-west3", Endpoint: proxy.URL, Timeout: time.Minute, TLS: rest.TLS{CAFile: proxy.CAFile},
		Credentials: func() (secret.Value, error) { return secret.NewValue(file), nil },
	})
	assert.NilError(t, err)
	return p
}

func TestGCP_KeepsTheContract(t *testing.T) {
	providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		s := newSecretManager()
		return openGCP(t, providertest.NewProxy(t, s)), s.put
	}, providertest.Options{Path: "app-x"})
}

func TestGCP_StandsAStoreThatMisbehaves(t *testing.T) {
	providertest.RunFaults(t, func(t *testing.T) providertest.Store {
		s := newSecretManager()
		proxy := providertest.NewProxy(t, s)
		proxy.Special(providertest.Denied, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				proxy.Pass(w, r)
				return
			}
			http.Error(w, providertest.Canary, http.StatusForbidden)
		})
		return providertest.Store{Provider: openGCP(t, proxy), Put: s.put, Inject: proxy.Inject}
	}, providertest.Options{Path: "app-x"})
}
