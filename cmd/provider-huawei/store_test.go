package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/exec"
	"github.com/docker-secret-operator/dso/internal/provider/providertest"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// programVariable makes this test's own binary the program.
const programVariable = "DSO_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) == "" {
		os.Exit(m.Run())
	}
	if err := run(os.Args[1:], os.Getenv); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

type o = map[string]any

// fake is as much of the service as the program uses. It wants a signature of the key,
// and does not check what is in it.
type fake struct {
	mu       sync.Mutex
	versions map[string][]o
	clock    int64
}

func newFake() *fake { return &fake{versions: map[string][]o{}, clock: 1_700_000_000_000} }

func (f *fake) put(name string, value []byte, stages ...string) secret.Version {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock++
	if len(stages) == 0 {
		for _, v := range f.versions[name] {
			v["version_metadata"].(o)["version_stages"] = []string{}
		}
		stages = []string{"SYSCURRENT"}
	}
	id := fmt.Sprintf("v%d", len(f.versions[name])+1)
	v := o{"version_metadata": o{"id": id, "secret_name": name, "create_time": f.clock, "version_stages": stages}, "secret_string": string(value)}
	if !utf8.Valid(value) {
		delete(v, "secret_string")
		v["secret_binary"] = value
	}
	f.versions[name] = append(f.versions[name], v)
	sum := sha256.Sum256(fmt.Append(nil, f.clock))
	return secret.Version(fmt.Sprintf("%s-%x", id, sum[:3]))
}

func says(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(o{"error_code": "CSMS.0", "error_msg": providertest.Canary})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	auth := r.Header.Get("Authorization")
	if !strings.HasPrefix(auth, "SDK-HMAC-SHA256 Access=KEY,") || !strings.Contains(auth, "Signature=") || r.Header.Get("X-Sdk-Date") == "" {
		says(w, http.StatusUnauthorized)
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/shop/secrets/")
	name, id, _ := strings.Cut(rest, "/versions")
	versions := f.versions[name]
	if !ok || len(versions) == 0 {
		says(w, http.StatusNotFound)
		return
	}
	if id == "" {
		list := []any{}
		for _, v := range versions {
			list = append(list, v["version_metadata"])
		}
		_ = json.NewEncoder(w).Encode(o{"version_metadatas": list})
		return
	}
	i := slices.IndexFunc(versions, func(v o) bool { return "/"+v["version_metadata"].(o)["id"].(string) == id })
	if i < 0 {
		says(w, http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(o{"version": versions[i]})
}

func open(t *testing.T, f *fake) (provider.Provider, *providertest.Proxy) {
	t.Helper()
	proxy := providertest.NewProxy(t, f)
	s, err := newStore(config{endpoint: proxy.URL, project: "shop", key: "KEY", secret: providertest.Canary}, rest.TLS{CAFile: proxy.CAFile})
	assert.NilError(t, err)
	return &provider.Retry{Provider: s, Name: "huawei", Attempts: 1}, proxy
}

var options = providertest.Options{Path: "app-x"}

func putCurrent(f *fake) providertest.Put {
	return func(path string, value []byte) secret.Version { return f.put(path, value) }
}

func TestStore_KeepsTheContract(t *testing.T) {
	providertest.RunWith(t, func(t *testing.T) (provider.Provider, providertest.Put) {
		f := newFake()
		p, _ := open(t, f)
		return p, putCurrent(f)
	}, options)
}

func TestStore_StandsAServiceThatMisbehaves(t *testing.T) {
	providertest.RunFaults(t, func(t *testing.T) providertest.Store {
		f := newFake()
		p, proxy := open(t, f)
		return providertest.Store{Provider: p, Put: putCurrent(f), Inject: proxy.Inject}
	}, options)
}

func TestStore_AVersionThatIsPendingIsNotTaken(t *testing.T) {
	f := newFake()
	p, _ := open(t, f)
	want := f.put("x", []byte("current"))
	f.put("x", []byte("pending"), "SYSPENDING")
	value, v, err := p.Get(t.Context(), "x", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal())+string(v), "current"+string(want))
}

func TestStore_ASecretThatWasMadeAnewHasOtherVersions(t *testing.T) {
	f := newFake()
	p, _ := open(t, f)
	before := f.put("x", []byte("old"))
	delete(f.versions, "x")
	after := f.put("x", []byte("new"))
	v, err := p.Version(t.Context(), "x")
	assert.NilError(t, err)
	assert.Equal(t, v, after)
	_, _, err = p.Get(t.Context(), "x", before)
	assert.ErrorIs(t, err, provider.ErrNoVersion)
}

// The program as DSO uses it.
func TestProgram_AnswersInTheProtocol(t *testing.T) {
	f := newFake()
	_, proxy := open(t, f)
	want := f.put("x", []byte("v\xff"))
	self, err := os.Executable()
	assert.NilError(t, err)
	p, err := exec.New("huawei", exec.Config{
		Program: self, Args: []string{"-project", "shop", "-endpoint", proxy.URL, "-ca-file", proxy.CAFile}, Timeout: time.Minute,
		Env: func() ([]string, error) {
			return []string{programVariable + "=1", "HUAWEICLOUD_SDK_AK=KEY", "HUAWEICLOUD_SDK_SK=" + providertest.Canary}, nil
		},
	})
	assert.NilError(t, err)
	t.Cleanup(p.Close)
	value, v, err := p.Get(t.Context(), "x", "")
	assert.NilError(t, err)
	assert.Equal(t, string(value.Reveal())+string(v), "v\xff"+string(want))
}

func TestRun_SaysWhatIsMissing(t *testing.T) {
	none := func(string) string { return "" }
	assert.ErrorContains(t, run(nil, none), "give -project")
	assert.ErrorContains(t, run([]string{"-project", "p", "-region", "r"}, none), "HUAWEICLOUD_SDK_AK")
}
