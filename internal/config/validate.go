package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	pathpkg "path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/docker-secret-operator/dso/internal/label"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// validate normalises what was decoded and checks what no single value can tell.
func (d *decoder) validate(c *Config) {
	c.Version = strings.TrimPrefix(c.Version, "v")
	for n, p := range c.Providers {
		path := join("providers", n)
		d.providerName(n, p, path, c.Mode)
		if at := join(path, "region"); p.Region != "" && p.Config != nil && !kinds[p.Type].region {
			d.problem(d.at[at], at, "remove it: it would have no effect", "%s: a provider of type `%s` has no region", name(at), p.Type)
		} else if p.Region != "" && !regionName.MatchString(p.Region) {
			d.problem(d.at[at], at, "such as `eu-central-1`", "%s is no name of a region", name(at))
		}
		switch x := p.Config.(type) {
		case *HTTP:
			d.http(x, join(path, "config"))
			d.sent(x, p.Auth, path)
		case *AWS:
			d.aws(x, join(path, "config"))
		case *Azure:
			d.azure(x, join(path, "config"))
		case *GCP:
			d.address(x.Endpoint, join(path, "config.endpoint"))
			d.tls(x.TLS, join(path, "config.tls"))
		case *Vault:
			d.vault(x, p, join(path, "config"))
		case *Exec:
			d.exec(x, join(path, "config"))
		case *File:
			at := join(path, "config.dir")
			if st, err := os.Stat(x.Dir); err == nil && !st.IsDir() { // it may come later
				d.warn(at, "name a directory", "%s: %s is not a directory", name(at), x.Dir)
			}
		case *Env:
			if at, given := d.at[join(path, "config.prefix")]; given && !isVariable(x.Prefix) {
				d.problem(at, join(path, "config.prefix"), "such as `APP_`", "`prefix` is not the beginning of a variable's name")
			}
		}
	}
	d.webhook(&c.Agent.Watch.Webhook, "agent.watch.webhook")
	d.rest(&c.Agent, "agent.rest")
	d.window(c.Defaults.Rotation.Window, "defaults.rotation.window")
	d.notifications(c.Notifications)
	for i, s := range c.Secrets {
		d.secret(s, fmt.Sprintf("secrets[%d]", i), c)
	}
	d.twice(c.Secrets)
}

// twice warns of variables that two entries plainly give to the same containers, each
// another secret: the first one counts. That of patterns which only overlap may be meant,
// as a rule and its exception.
func (d *decoder) twice(all []Secret) {
	type gives struct {
		entry int
		ref   string
	}
	before := map[string][]gives{} // by variable
	for i, s := range all {
		refs := s.References()
		for _, variable := range slices.Sorted(maps.Keys(refs)) {
			this := gives{i, refs[variable]}
			first := slices.IndexFunc(before[variable], func(o gives) bool { return o.ref != this.ref && sameTargets(all[o.entry].Targets, s.Targets) })
			if first >= 0 {
				path := fmt.Sprintf("secrets[%d]", i)
				d.warn(path, "the first one counts; give one of them another variable in `mappings`",
					"%s gives `%s`, which `secrets[%d]` gives to the same containers already", name(path), clip(variable), before[variable][first].entry)
			}
			before[variable] = append(before[variable], this)
		}
	}
}

// sameTargets reports whether there is a container or a set of labels that both name.
func sameTargets(a, b Targets) bool {
	return slices.ContainsFunc(a.Containers, func(name string) bool { return slices.Contains(b.Containers, name) }) ||
		len(a.Labels) > 0 && maps.Equal(a.Labels, b.Labels)
}

var regionName = regexp.MustCompile(`^[A-Za-z0-9-]+$`)

var providerName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

func (d *decoder) providerName(n string, p Provider, path, mode string) {
	switch {
	case !providerName.MatchString(n):
		d.problem(d.at[path], path, "use letters, digits and `._-`", "`%s` cannot be a provider's name: it could not stand in a reference", clip(n))
	case p.Type == "":
	case (n == secret.DefaultProvider) != (p.Type == "local"):
		d.problem(d.at[path], path, "rename one", "the provider named `%s` and the type `local` are the local vault and nothing else", secret.DefaultProvider)
	case mode == "local" && p.Type != "local":
		d.problem(d.at[path], path, "set `mode: agent`", "with `mode: local` there is no provider but the local vault")
	}
}

// address checks a URL of a store, which has `auth`.
func (d *decoder) address(text, path string) *url.URL { return d.addressOf(text, path, "use `auth`") }

// addressOf checks a URL; instead says what is to be used in place of a user in it.
func (d *decoder) addressOf(text, path, instead string) *url.URL {
	if text == "" {
		return nil // missing, and said so
	}
	at := d.at[path]
	u, err := url.Parse(text) // its error quotes the text
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		d.problem(at, path, "such as https://store.example:8200", "%s is not an address that begins with https:// or http://", name(path))
		return nil
	case u.User != nil:
		d.problem(at, path, instead, "%s holds a user or a password", name(path))
	case u.Fragment != "":
		d.problem(at, path, "", "%s has a part after #", name(path))
	}
	return u
}

// webhook fills in what is not set, once there is one.
func (d *decoder) webhook(w *Webhook, path string) {
	pos, given := d.at[path]
	if !given {
		return
	}
	at := join(path, "secret")
	if !w.Secret.IsSet() {
		d.problem(pos, at, "give `secret`, `secret_file` or `secret_credential`", "%s is missing", name(at))
	}
	d.longEnough(w.Secret, pos, at)
	if w.MaxSkew == 0 {
		w.MaxSkew = webhookSkew
	}
	if w.Listen == "" {
		w.Listen = webhookListen
	}
	d.listen(w.Listen, join(path, "listen"))
}

// longEnough checks a credential that somebody has made up. One that is empty, or cannot be
// read now, is said to be so elsewhere.
func (d *decoder) longEnough(c Credential, pos position, path string) {
	if key, err := c.Read(); err == nil && key.Len() > 0 && key.Len() < leastKey {
		d.problem(pos, path, "such as what `openssl rand -hex 32` prints", "%s has less than %d bytes", name(path), leastKey)
	}
}

// listen checks an address to listen on and returns it in parts.
func (d *decoder) listen(text, path string) (host, port string) {
	host, port, err := net.SplitHostPort(text)
	n, portErr := strconv.Atoi(port)
	if err != nil || portErr != nil || n < 1 || n > 65535 || host != "localhost" && net.ParseIP(host) == nil {
		d.problem(d.at[path], path, "such as `"+webhookListen+"`; `0.0.0.0:8471` is every address of the host", "%s is not an address and a port", name(path))
		return "", ""
	}
	return host, port
}

// rest checks that nothing is told to strangers. Where the webhook listens on the usual
// port, and nothing is said of the rest, the rest is there too.
func (d *decoder) rest(a *Agent, path string) {
	at := join(path, "token")
	if key := join(path, a.REST.Token.key); a.REST.Token.IsSet() {
		d.longEnough(a.REST.Token, d.at[key], key)
	}
	if a.REST.Listen == "" { // of another type, and said so
		a.REST.Listen = webhookListen
	}
	if !a.REST.On() {
		return
	}
	pos, given := d.at[join(path, "listen")]
	host, port := d.listen(a.REST.Listen, join(path, "listen"))
	if port == "" {
		return
	}
	if !loopback(host) && !a.REST.Token.IsSet() {
		d.problem(pos, at, "give `token`, `token_file` or `token_credential`, or listen on 127.0.0.1", "%s is missing: other hosts can reach %s", name(at), a.REST.Listen)
	}
	hook := a.Watch.Webhook
	if _, hookPort, err := net.SplitHostPort(hook.Listen); !hook.On() || err != nil || hookPort != port || hook.Listen == a.REST.Listen {
		return
	}
	if given {
		d.problem(pos, join(path, "listen"), "give them one address, or two ports", "%s has the port of `agent.watch.webhook.listen` and another address", name(join(path, "listen")))
		return
	}
	a.REST.Listen = hook.Listen
	if hookHost, _, _ := net.SplitHostPort(hook.Listen); !loopback(hookHost) && !a.REST.Token.IsSet() {
		a.REST.Listen = Off
	}
}

// loopback reports whether only this host can reach an address.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// notifications checks that each has a name of its own, and somewhere to go.
func (d *decoder) notifications(all []Notification) {
	seen := map[string]bool{}
	for i, n := range all {
		path := fmt.Sprintf("notifications[%d]", i)
		at := func(key string) (position, string) { return d.at[join(path, key)], join(path, key) }
		if pos, where := at("name"); n.Name != "" && (!providerName.MatchString(n.Name) || seen[n.Name]) {
			d.problem(pos, where, "give each a name of its own, of letters, digits and `._-`", "%s is no name, or another one has it", name(where))
		}
		seen[n.Name] = true
		if address, err := n.URL.Read(); err == nil && address.Len() > 0 {
			_, where := at(n.URL.key)
			d.addressOf(string(address.Reveal()), where, "sign what is sent with `secret`")
		}
		if n.Secret.IsSet() {
			pos, where := at(n.Secret.key)
			d.longEnough(n.Secret, pos, where)
		}
		if pos, where := at("template"); n.Template != "" && n.Format != "slack" {
			d.problem(pos, where, "set `format: slack`", "%s has no effect", name(where))
		} else if t, err := template.New(n.Name).Option("missingkey=zero").Parse(n.Template); err != nil {
			d.problem(pos, where, "such as `{{.Host}}: {{.Message}}`", "%s is no template: %v", name(where), err)
		} else if field := unknownField(t); field != "" {
			d.problem(pos, where, "there are `.Event`, `.Level`, `.Time`, `.Host`, `.Message` and `.Fields`", "%s names `.%s`, which no event has", name(where), clip(field))
		}
		if pos, given := d.at[join(path, "events")]; given && len(n.Events) == 0 {
			d.problem(pos, join(path, "events"), "leave it out for the usual ones", "%s names no event", name(join(path, "events")))
		}
		for j, e := range n.Events {
			where := fmt.Sprintf("%s.events[%d]", path, j)
			if !slices.Contains(Topics, e) {
				hint := "there are " + list(Topics)
				if word, ok := nearest(e, Topics); ok {
					hint = fmt.Sprintf("did you mean `%s`?", word)
				}
				d.problem(d.at[where], where, hint, "%s is `%s`, which is no event", name(where), clip(e))
			}
		}
	}
}

// noField is what text/template says of a field that a value has not.
var noField = regexp.MustCompile(`can't evaluate field (\S+) in type`)

// unknownField returns a field of a template that no event has, empty: none is known.
func unknownField(t *template.Template) string {
	var event struct { // what internal/notify fills in
		Event, Level, Host, Message    string
		Time                           time.Time
		Fields                         map[string]any
		SchemaVersion, Number, Dropped int
	}
	// What is below .Fields depends on the event, and so may what fails there.
	if m := noField.FindStringSubmatch(fmt.Sprint(t.Execute(io.Discard, event))); m != nil {
		return m[1]
	}
	return ""
}

// window checks that a window is whole, and opens at all.
func (d *decoder) window(w Window, path string) {
	cron, duration := join(path, "cron"), join(path, "duration")
	given := func(key string) bool { _, ok := d.at[key]; return ok }
	if !given(cron) && !given(duration) {
		return
	}
	if !given(cron) {
		d.problem(d.at[path], cron, "such as `0 2 * * *`", "%s is missing", name(cron))
	} else if !d.bad(cron) {
		if _, err := w.Parse(); err != nil {
			d.problem(d.at[cron], cron, "such as `0 2 * * 1-5`", "%s %v", name(cron), err)
		}
	}
	if !given(duration) {
		d.problem(d.at[path], duration, "such as `2h`", "%s is missing", name(duration))
	}
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// warn tells what is wrong with a file of this host. The configuration may be checked on another
// host than that of its agent, so it does not make it bad.
func (d *decoder) warn(at, hint, format string, args ...any) {
	d.warnings = append(d.warnings, d.found(d.at[at], at, hint, format, args...))
}

// onHost looks at a file that the agent needs; nil when it cannot.
func (d *decoder) onHost(file, at string) fs.FileInfo {
	if file == "" {
		return nil
	}
	st, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		d.warn(at, "the agent needs it there", "%s: this host has no %s", name(at), file)
	}
	if err != nil {
		return nil
	}
	return st
}

func (d *decoder) exec(x *Exec, path string) {
	if st := d.onHost(x.Program, join(path, "program")); st != nil {
		at := join(path, "program")
		switch perm := st.Mode().Perm(); {
		case !st.Mode().IsRegular():
			d.warn(at, "name a program", "%s: %s is not a file", name(at), x.Program)
		case perm&0o111 == 0:
			d.warn(at, "chmod +x "+x.Program, "%s: %s cannot be executed", name(at), x.Program)
		}
	}
	x.SHA256 = strings.ToLower(x.SHA256)
	if at := join(path, "sha256"); x.SHA256 != "" && !sha256Hex.MatchString(x.SHA256) {
		d.problem(d.at[at], at, "sha256sum prints it", "%s is not a SHA-256 in hex", name(at))
	}
	for variable := range x.Env {
		if at := join(join(path, "env"), variable); !isVariable(variable) {
			d.problem(d.at[at], at, "", "`%s` cannot be a variable's name", clip(variable))
		}
	}
}

func (d *decoder) http(x *HTTP, path string) {
	at := join(path, "url")
	u := d.address(strings.ReplaceAll(x.URL, "{path}", "path"), at)
	if u != nil && !strings.Contains(x.URL, "{path}") {
		d.problem(d.at[at], at, "", "%s has no {path}", name(at))
	}
	if host, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(x.URL, "https://"), "http://"), "/"); strings.Contains(host, "{path}") {
		d.problem(d.at[at], at, "", "%s has {path} in the name of the host", name(at))
	}
	for key, pointer := range map[string]string{"value": x.Value, "version": x.Version} {
		if pointer != "" && !strings.HasPrefix(pointer, "/") {
			d.problem(d.at[join(path, key)], join(path, key), "such as `/data/value`", "%s is not a JSON pointer", name(join(path, key)))
		}
	}
	d.tls(x.TLS, join(path, "tls"))
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// sent checks what becomes a header of each request.
func (d *decoder) sent(x *HTTP, auth Auth, path string) {
	header := func(n string, c Credential, at string) {
		if !headerName.MatchString(n) {
			d.problem(d.at[at], at, "", "`%s` cannot be a header's name", clip(n))
		}
		d.inHeader(c, at)
	}
	for n, c := range x.Headers {
		header(n, c, join(join(path, "config.headers"), n))
	}
	switch a := auth.Params.(type) {
	case *Bearer:
		d.inHeader(a.Token, join(path, "auth.params."+a.Token.key))
	case *Header:
		if a.Name != "" {
			header(a.Name, a.Value, join(path, "auth.params."+a.Value.key))
		}
	}
}

// inHeader checks a credential that is sent in a header. One that cannot be read now is said
// to be so elsewhere.
func (d *decoder) inHeader(c Credential, at string) {
	v, err := c.Read()
	if err == nil && strings.ContainsFunc(string(v.Reveal()), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		d.problem(d.at[at], at, "", "%s has a character that cannot be sent, such as a newline", name(at))
	}
}

func (d *decoder) vault(x *Vault, p Provider, path string) {
	at := join(path, "address")
	if u := d.address(x.Address, at); u != nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "") {
		d.problem(d.at[at], at, "remove what follows host:port", "%s has a path", name(at))
	}
	x.Address = strings.TrimRight(x.Address, "/")
	x.Namespace, x.Mount = strings.Trim(x.Namespace, "/"), strings.Trim(x.Mount, "/")
	if x.KVVersion != "auto" && x.KVVersion != "" && x.Mount == "" {
		d.problem(d.at[join(path, "kv_version")], join(path, "kv_version"), "or leave it out", "%s needs `mount`", name(join(path, "kv_version")))
	}
	d.tls(x.TLS, join(path, "tls"))
	switch auth := p.Auth.Params.(type) {
	case *Cert:
		if x.TLS.CertFile == "" {
			d.problem(d.at[path], join(path, "tls.cert_file"), "", "%s is missing: the method `cert` needs it", name(join(path, "tls.cert_file")))
		}
	case *Token:
		d.inHeader(auth.Token, strings.TrimSuffix(path, "config")+"auth.params."+auth.Token.key)
	}
}

func (d *decoder) azure(x *Azure, path string) {
	for key, address := range map[string]string{"vault": x.Vault, "authority": x.Authority} {
		at := join(path, key)
		if u := d.address(address, at); u != nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Scheme != "https") {
			d.problem(d.at[at], at, "such as https://shop.vault.azure.net", "%s must be https:// and a host", name(at))
		}
	}
	if at := join(path, "cloud"); x.Authority != "" && x.Cloud != "public" {
		d.problem(d.at[at], at, "give one of them", "%s and `authority` say the same", name(at))
	}
	d.tls(x.TLS, join(path, "tls"))
}

var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)

func (d *decoder) aws(x *AWS, path string) {
	d.address(x.Endpoint, join(path, "endpoint"))
	d.address(x.STSEndpoint, join(path, "sts_endpoint"))
	if at := join(path, "role_arn"); x.RoleARN != "" && !roleARN.MatchString(x.RoleARN) {
		d.problem(d.at[at], at, "such as arn:aws:iam::123456789012:role/dso", "%s is not the ARN of a role", name(at))
	}
	for key, value := range map[string]string{"external_id": x.ExternalID, "sts_endpoint": x.STSEndpoint} {
		if at := join(path, key); value != "" && x.RoleARN == "" {
			d.problem(d.at[at], at, "remove it: it would have no effect", "%s needs `role_arn`", name(at))
		}
	}
	d.tls(x.TLS, join(path, "tls"))
}

func (d *decoder) tls(x TLS, path string) {
	if (x.CertFile == "") != (x.KeyFile == "") {
		d.problem(d.at[path], path, "", "%s: `cert_file` and `key_file` belong together", name(path))
	}
	d.onHost(x.CAFile, join(path, "ca_file"))
	d.onHost(x.CertFile, join(path, "cert_file"))
	at := join(path, "key_file")
	if st := d.onHost(x.KeyFile, at); st != nil {
		if err := checkPrivate(x.KeyFile, st); err != nil {
			d.problem(d.at[at], at, "", "%s: %v", name(at), err)
		}
	}
}

// inject checks what only a file has.
func (d *decoder) inject(s Secret, path string) {
	if s.Inject.Type == "env" && (s.Inject.UID >= 0 || s.Inject.GID >= 0) {
		d.problem(d.at[path], path, "set `type: file`", "%s: only a file has an owner", name(path))
	}
	at := join(path, "path")
	if s.Inject.Path == "" {
		return
	}
	if s.Inject.Type == "env" {
		d.problem(d.at[at], at, "set `type: file`", "%s: only a file has a path", name(at))
	}
	if len(s.Mappings) > 1 {
		d.problem(d.at[at], at, "give each of them an entry of its own", "%s is one file and there are %d mappings", name(at), len(s.Mappings))
	}
	if err := secret.CheckFilePath(s.Inject.Path); err != nil && strings.HasPrefix(s.Inject.Path, "/") {
		d.problem(d.at[at], at, "such as `/etc/shop/tls.key`", "%s %v", name(at), err)
	}
}

// rotation checks what belongs to one strategy.
func (d *decoder) rotation(r Rotation, path string) {
	d.window(r.Window, join(path, "window"))
	at := join(path, "signal")
	if r.Signal != "" {
		if _, err := label.ParseSignal(r.Signal); err != nil {
			d.problem(d.at[at], at, "", "%s %v", name(at), err)
		}
		if r.Strategy != label.BySignal {
			d.problem(d.at[at], at, "set `strategy: signal`", "%s would have no effect", name(at))
		}
	}
	at = join(path, "exec")
	if r.Exec != "" {
		if _, _, err := label.ParseCommand(r.Exec); err != nil {
			d.problem(d.at[at], at, "", "%s %v", name(at), err)
		}
		if r.Strategy != label.ByExec {
			d.problem(d.at[at], at, "set `strategy: exec`", "%s would have no effect", name(at))
		}
	} else if r.Strategy == label.ByExec {
		d.problem(d.at[join(path, "strategy")], at, "such as `exec: nginx -s reload`", "%s is missing: it says what to run", name(at))
	}
	if at := join(path, "window"); !r.Enabled && r.Window != (Window{}) {
		d.problem(d.at[at], at, "remove one of them", "%s would have no effect with `enabled: false`", name(at))
	}
}

var envName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)

// secret checks the mappings, which are ENV_NAME: provider/path[#field].
func (d *decoder) secret(s Secret, path string, c *Config) {
	isProvider := func(n string) bool { _, ok := c.Providers[n]; return ok || n == secret.DefaultProvider }
	if s.Provider != "" && !isProvider(s.Provider) {
		at := join(path, "provider")
		d.problem(d.at[at], at, cmp.Or(d.meant(s.Provider, c), "there are "+list(append(slices.Sorted(maps.Keys(c.Providers)), secret.DefaultProvider))), "%s is no provider of this file", name(at))
	}
	if _, err := secret.ParseRef("dso://" + s.Name); s.Name != "" && (err != nil || strings.Contains(s.Name, "#")) {
		d.problem(d.at[join(path, "name")], join(path, "name"), "such as `app/db`", "%s cannot be a secret's path", name(join(path, "name")))
	}
	if len(s.Targets.Containers) == 0 && len(s.Targets.Labels) == 0 && c.Agent.Policy == "strict" {
		d.problem(d.at[path], join(path, "targets"), "such as `targets: {containers: [shop-web-*]}`; a label gives nothing with `agent.policy: strict`", "%s names nobody", name(join(path, "targets")))
	}
	for _, pattern := range s.Targets.Containers {
		if _, err := pathpkg.Match(pattern, ""); err != nil || pattern == "" {
			at := join(path, "targets.containers")
			d.problem(d.at[at], at, "`*` and `?` stand for characters", "`%s` is no pattern for a name", clip(pattern))
		}
	}
	d.inject(s, join(path, "inject"))
	if s.Rotation.Strategy == label.BySignal || s.Rotation.Strategy == label.ByExec {
		at, file := join(path, "rotation.strategy"), secret.Ref{Kind: secret.KindFile, File: secret.FileOptions{Path: s.Inject.Path}}
		switch {
		case s.Inject.Type == "env":
			d.problem(d.at[at], at, "set `inject: {type: file}`", "%s is `%s`, which brings a variable no new value", name(at), s.Rotation.Strategy)
		case s.Inject.Type == "file" && file.Fixed():
			d.problem(d.at[at], at, "give an `inject.path` below /run/secrets/dso, or none", "%s is `%s`, which brings a file at `%s` no new value", name(at), s.Rotation.Strategy, clip(s.Inject.Path))
		}
	}
	d.rotation(s.Rotation, join(path, "rotation"))
	for variable, ref := range s.Mappings {
		at := join(join(path, "mappings"), variable)
		reversed := envName.MatchString(ref) && !envName.MatchString(variable)
		store, rest, deep := strings.Cut(strings.TrimPrefix(ref, "dso://"), "/")
		_, err := secret.ParseRef("dso://" + strings.TrimPrefix(ref, "dso://"))
		switch {
		case reversed && !strings.ContainsAny(variable, "/#"):
			d.problem(d.at[at], at, fmt.Sprintf("write `%s: %s/%s#%s`", ref, s.Provider, s.Name, variable),
				"this mapping is the wrong way round: the variable comes first")
		case reversed:
			d.problem(d.at[at], at, fmt.Sprintf("write `%s: %s`", ref, strings.TrimPrefix(variable, "dso://")),
				"this mapping is the wrong way round: the variable comes first")
		case !isVariable(variable):
			d.problem(d.at[at], at, "", "`%s` cannot be a variable's name", clip(variable))
		case err != nil:
			d.problem(d.at[at], at, "such as `vault/kv/app#password`", "%s is not provider/path[#field]", name(at))
		case deep && !isProvider(store):
			d.problem(d.at[at], at, cmp.Or(d.meant(store, c), fmt.Sprintf("write `local/%s/%s` for the local vault", store, rest)),
				"%s begins with `%s`, which is no provider of this file", name(at), clip(store))
		}
	}
}

// meant is a hint at the provider that somebody who typed this one may have meant.
func (d *decoder) meant(typed string, c *Config) string {
	if word, ok := nearest(typed, append(slices.Sorted(maps.Keys(c.Providers)), secret.DefaultProvider)); ok {
		return fmt.Sprintf("did you mean `%s`?", word)
	}
	return ""
}
