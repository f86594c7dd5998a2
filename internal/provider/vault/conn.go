package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/openbao/openbao/api/v2"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/rest"
)

// conn asks one server.
type conn struct {
	client    *api.Client
	timeout   time.Duration
	unwrapped *Unwrapped
}

// newConn takes nothing from the environment: the agent's may be anybody's.
func newConn(cfg Config) (*conn, error) {
	transport, err := rest.Transport(cfg.TLS)
	if err != nil {
		return nil, err
	}
	c := api.NewConfig()
	c.Address = cfg.Address
	c.HttpClient = &http.Client{Transport: transport, CheckRedirect: rest.NoRedirect}
	c.MaxRetries = 0 // whoever calls the provider tries again, and knows how long
	c.DisableRedirects = true
	client, err := api.NewClient(c)
	if err != nil {
		return nil, fmt.Errorf("address: not a URL") // err quotes it
	}
	if cfg.Namespace != "" {
		client.SetNamespace(cfg.Namespace)
	}
	unwrapped := cfg.Unwrapped
	if unwrapped == nil {
		unwrapped = &Unwrapped{}
	}
	return &conn{client: client, timeout: cfg.Timeout, unwrapped: unwrapped}, nil
}

// answer is what Vault answers, as far as the provider uses it.
type answer struct {
	status int
	Data   json.RawMessage `json:"data"`

	LeaseID       string `json:"lease_id"`
	LeaseDuration int64  `json:"lease_duration"` // seconds
	Renewable     bool   `json:"renewable"`
	Auth          *struct {
		ClientToken   string `json:"client_token"`
		LeaseDuration int64  `json:"lease_duration"`
		Renewable     bool   `json:"renewable"`
	} `json:"auth"`
}

// data reads the answer's data into out.
func (a answer) data(out any) error {
	if json.Unmarshal(a.Data, out) != nil {
		return fmt.Errorf("%w: it is not what this path answers", provider.ErrMalformed)
	}
	return nil
}

// ask makes one request. Statuses besides 200 are errors unless accepted. params of
// a GET go into the query, those of a POST into the body.
func (c *conn) ask(ctx context.Context, token, method, path string, params map[string]string, accept ...int) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := c.client.NewRequest(method, "/v1/"+path)
	r.ClientToken = token
	if method == http.MethodGet {
		for k, v := range params {
			r.Params.Set(k, v)
		}
	} else if err := r.SetJSONBody(params); err != nil {
		return answer{}, fmt.Errorf("encode the request: %w", provider.ErrPermanent)
	}
	resp, err := c.client.RawRequestWithContext(ctx, r) //nolint:staticcheck // the other calls of the SDK read an answer without a bound
	if resp == nil {
		return answer{}, rest.Failed(err)
	}
	hr, body, err := rest.Answer(resp.Response, append(accept, http.StatusOK)...)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: hr.StatusCode}
	if json.Unmarshal(body, &a) != nil { // its error quotes the body
		return answer{}, fmt.Errorf("%w: it is not JSON", provider.ErrMalformed)
	}
	return a, nil
}
