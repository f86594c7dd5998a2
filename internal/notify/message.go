package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"
	"time"
)

// Message is what a destination is told. Its JSON is the body of the format json.
type Message struct {
	SchemaVersion int            `json:"schema_version"`
	Event         string         `json:"event"` // the topic, or "test"
	Level         string         `json:"level"`
	Time          time.Time      `json:"time"`
	Host          string         `json:"host"`
	Message       string         `json:"message"`
	Number        uint64         `json:"number,omitempty"` // of the event, in its agent
	Fields        map[string]any `json:"fields,omitempty"`
	// Dropped is how many messages before this one found the queue full.
	Dropped int `json:"dropped,omitempty"`
}

// defaultTemplate is the text for slack.
const defaultTemplate = "*{{.Level}}* {{.Host}}: {{.Message}}{{range $name, $value := .Fields}}\n• {{$name}}: {{$value}}{{end}}" +
	"{{if .Dropped}}\n({{.Dropped}} messages before this one were dropped){{end}}"

// maxBody bounds a body, in bytes.
const maxBody = 256 << 10

// body returns what is sent.
func (d Destination) body(m Message) ([]byte, error) {
	if d.Format != "slack" {
		return json.Marshal(m)
	}
	text := d.Template
	if text == "" {
		text = defaultTemplate
	}
	t, err := template.New(d.Name).Option("missingkey=zero").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&limited{&out, maxBody}, m.escaped()); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return json.Marshal(map[string]string{"text": out.String()})
}

// limited ends a template that has no end.
type limited struct {
	out  *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("the text is longer than %d bytes", maxBody)
	}
	return l.out.Write(p)
}

// escape keeps what a message quotes from meaning anything in Slack's markup: a
// container's name could otherwise mention everybody.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func (m Message) escaped() Message {
	m.Message, m.Host = escape.Replace(m.Message), escape.Replace(m.Host)
	fields := map[string]any{}
	for name, value := range m.Fields {
		fields[name] = escape.Replace(fmt.Sprint(value))
	}
	m.Fields = fields
	return m
}
