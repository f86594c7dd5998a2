package config

import (
	"crypto/sha256"
	"time"

	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/window"
)

// Config is one dso.yaml. The tags are the format: yaml names the key, default,
// enum, min and max bound it, unset is what a number is that is not in the file, doc explains it in the schema, kinds says that it
// names a type of provider, and pending marks what this version refuses because it would do
// nothing.
type Config struct {
	Version       string              `yaml:"version" enum:"1,v1" default:"1" loose:"true" doc:"Version of this format."`
	Mode          string              `yaml:"mode" enum:"agent,local" default:"agent" doc:"local: only the local vault; a provider of another type is an error."`
	Providers     map[string]Provider `yaml:"providers" doc:"The stores, by the name that references use: dso://NAME/path."`
	Agent         Agent               `yaml:"agent" doc:"The agent itself."`
	Logging       Logging             `yaml:"logging" doc:"The agent's log, on standard error."`
	Defaults      Defaults            `yaml:"defaults" doc:"What holds for every container."`
	Secrets       []Secret            `yaml:"secrets" doc:"Secrets for containers whose Compose file stays as it is."`
	Notifications []Notification      `yaml:"notifications" doc:"Who is told of what happens."`

	// File is the absolute path that was read.
	File string `yaml:"-"`
	// Warnings are what does not keep the file from being used, such as a program that
	// this host does not have.
	Warnings []Problem `yaml:"-"`
	// Sum is the state of the file that was read; see [Sum].
	Sum [sha256.Size]byte `yaml:"-"`

	raw    map[string]string // scalars with ${…} as they stand in the file, by path
	source secret.Value      // the file's content, which may hold credentials
}

// Source returns the content of the file that was read, nothing for [Default].
func (c *Config) Source() secret.Value { return c.source }

// Others returns the number of providers besides the local vault.
func (c *Config) Others() int {
	n := len(c.Providers)
	if _, ok := c.Providers[secret.DefaultProvider]; ok {
		n--
	}
	return n
}

// Agent configures the agent itself.
type Agent struct {
	Watch Watch `yaml:"watch" doc:"How changes in the stores are noticed."`
	REST  REST  `yaml:"rest" doc:"What programs can ask over TCP."`
	// Policy is open or strict.
	Policy string `yaml:"policy" enum:"open,strict" default:"open" doc:"open: a container may read what its specification names. strict: only the secrets of its own Compose project in the local vault, and what a target gives it."`
	Seal   string `yaml:"seal" enum:"auto,tpm2,host,file,off" default:"auto" doc:"What protects the key of the sealed last-known-good values. auto: tpm2 where the host has one, else file. off: none are kept."`
	// FastLane is auto or off.
	FastLane string `yaml:"fast_lane" enum:"auto,off" default:"auto" doc:"auto: where the kernel and the engine can, what comes from outside goes past the front, straight to the container. off: it takes the front."`
}

// REST is what programs can ask over TCP that cannot open the agent's socket.
type REST struct {
	Listen string     `yaml:"listen" default:"127.0.0.1:8471" doc:"Address and port, or off. One that other hosts can reach needs a token."`
	Token  Credential `yaml:"token" doc:"What callers show for all but /health and /metrics, at least 16 bytes."`
}

// Off is the word for an address that nobody listens on.
const Off = "off"

// On reports whether somebody listens.
func (r REST) On() bool { return r.Listen != Off }

// Watch says how changes in the stores are noticed. What a store reports by itself
// (the local vault, the file provider) is noticed at once in any case.
type Watch struct {
	Mode            string        `yaml:"mode" enum:"polling" default:"polling" doc:"polling: the stores are asked for versions every polling_interval."`
	PollingInterval time.Duration `yaml:"polling_interval" default:"1m" min:"1s" max:"24h" doc:"Longest time between two looks at a secret's version in its store."`
	Webhook         Webhook       `yaml:"webhook" doc:"Reports of changed secrets from outside. Without it none are taken."`
}

// Webhook is where reports of changed secrets are taken, and with what they are signed.
type Webhook struct {
	Listen  string        `yaml:"listen" doc:"Address and port, 127.0.0.1:8471 unless set."`
	Secret  Credential    `yaml:"secret" doc:"What reports are signed with, at least 16 bytes."`
	MaxSkew time.Duration `yaml:"max_skew" min:"1s" max:"10m" doc:"How far the timestamp of a report may be off, 5m unless set."`
}

// On reports whether there is a webhook.
func (w Webhook) On() bool { return w.Secret.IsSet() }

// What holds for a webhook that does not say so.
const (
	webhookListen = "127.0.0.1:8471"
	webhookSkew   = 5 * time.Minute
	leastKey      = 16 // bytes, of what somebody makes up
)

// Logging configures the agent's log.
type Logging struct {
	Level  string `yaml:"level" enum:"debug,info,warn,error" default:"info" doc:"Least level that is logged."`
	Format string `yaml:"format" enum:"auto,json,text" default:"auto" doc:"auto: text on a terminal, JSON elsewhere."`
}

// Notification is somebody who is told of what happens.
type Notification struct {
	Name     string        `yaml:"name" required:"true" doc:"What it is called in the log and by docker dso notifications test."`
	URL      Credential    `yaml:"url" required:"true" doc:"Where events are sent. It may be a credential itself, as Slack's are, and is treated as one."`
	Format   string        `yaml:"format" enum:"json,slack" default:"json" doc:"json: the event. slack: a text, as receivers of Slack's incoming webhooks take it."`
	Template string        `yaml:"template" doc:"Of the text for slack, a Go template over .Event, .Level, .Time, .Host, .Message and .Fields."`
	Secret   Credential    `yaml:"secret" doc:"What the body is signed with, in X-DSO-Signature, at least 16 bytes."`
	Events   []string      `yaml:"events" doc:"Which events: rotation, rotation_failed, recovery, store, stale, refused, agent, configuration, error. Unless set: rotation_failed, store, stale, refused and error."`
	Timeout  time.Duration `yaml:"timeout" default:"10s" min:"1s" max:"1m" doc:"Of one attempt."`
	Attempts int           `yaml:"attempts" default:"8" min:"1" max:"20" doc:"Attempts in all; the pause between them grows from 1s to 5m."`
}

// Topics are the events that a notification can ask for, and DefaultTopics those that
// it gets without asking.
var (
	Topics        = []string{"rotation", "rotation_failed", "recovery", "store", "stale", "refused", "agent", "configuration", "error"}
	DefaultTopics = []string{"rotation_failed", "store", "stale", "refused", "error"}
)

// Provider is one store. Config and Auth.Params depend on the type.
type Provider struct {
	Type   string `yaml:"type" required:"true" kinds:"true" doc:"What kind of store it is."`
	Region string `yaml:"region" doc:"Where the store is, for types that have regions."`
	Auth   Auth   `yaml:"auth" doc:"How DSO proves who it is."`
	Retry  Retry  `yaml:"retry" doc:"What is done when the store does not answer."`
	// CallsPerMinute is the budget of all calls; zero: no bound.
	CallsPerMinute int `yaml:"calls_per_minute" default:"0" min:"0" max:"1000000" doc:"Most calls to the store in a minute; 0: no bound. Polls wait for it; the start of a container never does, and polls make up for it."`
	// Config points to the struct of the type, such as *Vault; nil for local.
	Config any `yaml:"config" doc:"Where the store is, by type."`
}

// Auth is how DSO proves to a store who it is.
type Auth struct {
	Method string `yaml:"method" doc:"Depends on the type of the provider."`
	// Params points to the struct of the method, such as *AppRole; nil for none.
	Params any `yaml:"params" doc:"Depends on the method."`
}

// Retry says how often a call that may succeed later is made, and how long the
// first pause is; each further one is twice as long. A store that says how long to
// wait is believed.
type Retry struct {
	Attempts int           `yaml:"attempts" default:"3" min:"1" max:"10" doc:"Calls in all, the first included."`
	Backoff  time.Duration `yaml:"backoff" default:"250ms" min:"10ms" max:"1m" doc:"First pause; it doubles."`
}

// Secret gives a secret to containers whose Compose file stays as it is.
type Secret struct {
	Name     string            `yaml:"name" required:"true" doc:"The secret's path in the store, such as app/db."`
	Provider string            `yaml:"provider" default:"local" doc:"The name of the provider."`
	Inject   Inject            `yaml:"inject" doc:"How the secret reaches the containers."`
	Targets  Targets           `yaml:"targets" doc:"Which containers get it: those that are named, and those that have all of the labels."`
	Rotation Rotation          `yaml:"rotation" doc:"How the containers are changed over, where they have no label that says so."`
	Mappings map[string]string `yaml:"mappings" doc:"Variables and what they hold, as ENV_NAME: provider/path[#field]. Without any there is one, named like the secret: APP_DB for app/db."`
}

// Inject says how a secret reaches a container.
type Inject struct {
	Type string `yaml:"type" enum:"env,file" default:"env" doc:"env: the variable holds the value. file: it holds the path of a file below /run/secrets/dso."`
	Path string `yaml:"path" abs:"true" doc:"Where the container sees the file. Below /run/secrets/dso it changes with the secret; anywhere else it is a mount of its own and stays as it was at the container's start."`
	UID  int    `yaml:"uid" min:"0" max:"4294967295" unset:"-1" doc:"Owner of the file, in the container; the container's user unless set."`
	GID  int    `yaml:"gid" min:"0" max:"4294967295" unset:"-1" doc:"Group of the file, in the container; the container's unless set."`
}

// Targets says which containers get a secret.
type Targets struct {
	Containers []string          `yaml:"containers" doc:"Names of containers, or project/service; * stands for any characters but a slash."`
	Labels     map[string]string `yaml:"labels" doc:"Labels with their values; an empty value is any."`
}

// Rotation says how the containers of a secret are changed over.
type Rotation struct {
	Enabled            bool          `yaml:"enabled" default:"true" doc:"false: a change of the secret leads to no rotation by itself."`
	Strategy           string        `yaml:"strategy" enum:"auto,rolling,restart,signal,exec,none" default:"auto" doc:"As the label dso.update.strategy."`
	Signal             string        `yaml:"signal" doc:"With strategy: signal, as the label dso.update.signal; SIGHUP unless set."`
	Exec               string        `yaml:"exec" doc:"With strategy: exec, as the label dso.update.exec: a line for the container's shell, or a JSON list of words."`
	HealthCheckTimeout time.Duration `yaml:"health_check_timeout" min:"1s" max:"1h" default:"2m" doc:"As the label dso.health.timeout."`
	Window             Window        `yaml:"window" doc:"When rotations may begin because of this secret, in the place of defaults.rotation.window."`
}

// Defaults is what holds for every container.
type Defaults struct {
	Rotation DefaultRotation `yaml:"rotation" doc:"How containers are changed over."`
}

// DefaultRotation says how containers are changed over.
type DefaultRotation struct {
	Window Window `yaml:"window" doc:"When rotations may begin; without it, always."`
}

// Window is when rotations may begin.
type Window struct {
	Cron     string        `yaml:"cron" doc:"When it opens: minute, hour, day of the month, month, day of the week, such as 0 2 * * 1-5; in the host's time zone, or after CRON_TZ=Europe/Berlin in that one."`
	Duration time.Duration `yaml:"duration" min:"1m" max:"168h" doc:"How long it stays open."`
}

// Parse returns the window itself.
func (w Window) Parse() (window.Window, error) {
	if w == (Window{}) {
		return window.Window{}, nil
	}
	return window.Parse(w.Cron, w.Duration)
}
