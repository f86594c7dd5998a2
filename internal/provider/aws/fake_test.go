package aws_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider/providertest"
)

// The machine's own AWS configuration has no part in the tests.
func TestMain(m *testing.M) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	for name, value := range map[string]string{
		"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		_ = os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

// version is one version of a secret or parameter.
type version struct {
	id     string // of Secrets Manager
	value  []byte
	binary bool
	stages []string
	at     int64
}

// fake is as much of AWS as the provider uses: the JSON protocol of both stores, and
// of STS the one call. Everything that it says beside a code is a canary.
type fake struct {
	mu       sync.Mutex
	secrets  map[string][]version
	deleted  map[string]bool
	accepted string // id of the key
	clock    int64
	calls    map[string]int
	refused  map[string]string // code by operation
	external string            // what STS wants
	gate     chan struct{}     // that calls wait at; nil: none
}

func newFake() *fake {
	return &fake{secrets: map[string][]version{}, deleted: map[string]bool{}, accepted: "AKIAFIRST", clock: 1_700_000_000, calls: map[string]int{}, refused: map[string]string{}}
}

// put adds a version with the stages; without any it becomes the current one.
func (f *fake) put(name string, value []byte, binary bool, stages ...string) version {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock++
	v := version{id: strings.ToLower(rand.Text()) + "-0123456789", value: value, binary: binary, stages: stages, at: f.clock}
	if len(stages) == 0 {
		v.stages = []string{"AWSCURRENT"}
		for i := range f.secrets[name] {
			f.secrets[name][i].stages = nil
		}
	}
	f.secrets[name] = append(f.secrets[name], v)
	return v
}

func (f *fake) accept(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.accepted = id
}

func (f *fake) refuse(operation, code string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused[operation] = code
}

func (f *fake) count(operation string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[operation]
}

func says(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]any{"__type": code, "message": providertest.Canary})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	target := r.Header.Get("X-Amz-Target")
	_, operation, _ := strings.Cut(target, ".")
	if target == "" {
		operation = "AssumeRole"
	}
	f.calls[operation]++
	if code := f.refused[operation]; code != "" {
		says(w, code)
		return
	}
	if !strings.Contains(r.Header.Get("Authorization"), "Credential="+f.accepted+"/") {
		says(w, "UnrecognizedClientException")
		return
	}
	if operation == "AssumeRole" {
		f.assumeRole(w, r)
		return
	}
	var in struct {
		SecretId, VersionId, VersionStage, Name string   //nolint:revive // names of the protocol
		SecretIdList, Names                     []string //nolint:revive // names of the protocol
	}
	if json.NewDecoder(r.Body).Decode(&in) != nil {
		says(w, "SerializationException")
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	switch operation {
	case "DescribeSecret":
		f.describe(w, in.SecretId)
	case "GetSecretValue":
		f.getSecret(w, in.SecretId, in.VersionId, in.VersionStage)
	case "BatchGetSecretValue":
		f.getAll(w, "SecretValues", in.SecretIdList, func(w http.ResponseWriter, id string) { f.getSecret(w, id, "", "AWSCURRENT") }, "")
	case "GetParameter":
		f.getParameter(w, in.Name)
	case "GetParameters":
		f.getAll(w, "Parameters", in.Names, f.getParameter, "Parameter")
	default:
		says(w, "UnknownOperationException")
	}
}

// getAll answers with what each call alone answers with, or with a member of it, and leaves
// out what there is not.
func (f *fake) getAll(w http.ResponseWriter, into string, names []string, one func(http.ResponseWriter, string), member string) {
	var all []json.RawMessage
	for _, name := range names {
		alone := httptest.NewRecorder()
		if one(alone, name); alone.Code != http.StatusOK {
			continue
		}
		found := alone.Body.Bytes()
		if member != "" {
			var in map[string]json.RawMessage
			_ = json.Unmarshal(found, &in)
			found = in[member]
		}
		all = append(all, found)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{into: all})
}

func (f *fake) describe(w http.ResponseWriter, id string) {
	versions, ok := f.secrets[id]
	if !ok {
		says(w, "ResourceNotFoundException")
		return
	}
	stages := map[string][]string{}
	for _, v := range versions {
		stages[v.id] = v.stages
	}
	out := map[string]any{"ARN": "arn:aws:secretsmanager:x:0:secret:" + id, "Name": id, "VersionIdsToStages": stages}
	if f.deleted[id] {
		out["DeletedDate"] = f.clock
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (f *fake) getSecret(w http.ResponseWriter, id, versionID, stage string) {
	if f.deleted[id] {
		says(w, "InvalidRequestException")
		return
	}
	if versionID != "" && len(versionID) < 32 {
		says(w, "InvalidParameterException")
		return
	}
	for _, v := range f.secrets[id] {
		if versionID != "" && v.id != versionID || versionID == "" && !strings.Contains(strings.Join(v.stages, " "), stage) {
			continue
		}
		out := map[string]any{"ARN": "arn:aws:secretsmanager:x:0:secret:" + id, "Name": id, "VersionId": v.id, "VersionStages": v.stages}
		if v.binary {
			out["SecretBinary"] = v.value
		} else {
			out["SecretString"] = string(v.value)
		}
		_ = json.NewEncoder(w).Encode(out)
		return
	}
	says(w, "ResourceNotFoundException")
}

func (f *fake) getParameter(w http.ResponseWriter, name string) {
	name, selector, _ := strings.Cut(name, ":")
	versions := f.secrets[name]
	if len(versions) == 0 {
		says(w, "ParameterNotFound")
		return
	}
	n := len(versions)
	if selector != "" {
		_, _ = fmt.Sscan(selector, &n)
	}
	if n < 1 || n > len(versions) {
		says(w, "ParameterVersionNotFound")
		return
	}
	v := versions[n-1]
	_ = json.NewEncoder(w).Encode(map[string]any{"Parameter": map[string]any{
		"Name": name, "Type": "SecureString", "Value": string(v.value), "Version": n, "LastModifiedDate": v.at,
	}})
}

func (f *fake) assumeRole(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	if r.PostForm.Get("ExternalId") != f.external {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>%s</Message></Error></ErrorResponse>`, providertest.Canary)
		return
	}
	f.accepted = "ASIAROLE"
	_, _ = fmt.Fprintf(w, `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
		<Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken>
		<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
		providertest.Canary, providertest.Canary, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}
