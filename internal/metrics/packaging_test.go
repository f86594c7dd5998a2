package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
	"gotest.tools/v3/assert"
)

var metricName = regexp.MustCompile(`\bdso_[a-z_]+\b`)

// The dashboard and the alert rules name metrics that there are, and the dashboard all
// of them.
func TestPackaging_NamesTheMetricsThatThereAre(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/metrics.md")
	assert.NilError(t, err)
	var all []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(dso_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		all = append(all, m[1])
	}
	assert.Assert(t, len(all) > 20)
	known := func(name string) bool {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			for _, m := range all {
				if m+suffix == name {
					return true
				}
			}
		}
		return false
	}

	text, err := os.ReadFile("../../packaging/prometheus/dashboard.json")
	assert.NilError(t, err)
	assert.Assert(t, json.Valid(text))
	for _, name := range metricName.FindAllString(string(text), -1) {
		assert.Check(t, known(name), "dashboard: %s", name)
	}
	for _, name := range all {
		assert.Check(t, strings.Contains(string(text), name), "the dashboard does not show %s", name)
	}

	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	text, err = os.ReadFile("../../packaging/prometheus/alerts.yml")
	assert.NilError(t, err)
	assert.NilError(t, yaml.Unmarshal(text, &rules))
	tests, err := os.ReadFile("../../packaging/prometheus/alerts_test.yml")
	assert.NilError(t, err)
	for _, r := range rules.Groups[0].Rules {
		assert.Check(t, r.Annotations["summary"] != "", r.Alert)
		assert.Check(t, strings.Count(string(tests), "alertname: "+r.Alert) >= 2, "%s is not tested both ways", r.Alert)
		for _, name := range metricName.FindAllString(r.Expr, -1) {
			assert.Check(t, known(name), "alert %s: %s", r.Alert, name)
		}
	}
}
