package host

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/doctor"
)

// check is what doctor says of one thing.
func (d *debian) check(id string) doctor.Result {
	d.t.Helper()
	var r doctor.Report
	out := d.sh("docker dso doctor --json || true")
	assert.NilError(d.t, json.Unmarshal([]byte(out), &r), out)
	i := slices.IndexFunc(r.Checks, func(c doctor.Result) bool { return c.ID == id })
	assert.Assert(d.t, i >= 0, out)
	return r.Checks[i]
}

// What only a host that boots can have wrong; the rest is damaged in test/e2e/operator.
func TestDoctor_SeesWhatIsWrongWithTheBoot(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		const atBoot, order, versions = "DSO-DOCTOR-019", "DSO-DOCTOR-020", "DSO-DOCTOR-003"
		for _, id := range []string{atBoot, order, versions} {
			assert.Equal(t, d.check(id).Status, doctor.Pass, id)
		}

		m.hold(d)
		assert.Equal(t, d.check(atBoot).Status, doctor.Warn)
		d.sh("docker dso doctor --fix --yes || true")
		assert.Equal(t, d.check(atBoot).Status, doctor.Pass, "it was enabled")
		assert.Assert(t, strings.Contains(d.run("docker", "dso", "system", "status"), m.keeper()))
		if m == (container{}) {
			return // the engine starts it with the others, and their starts wait
		}
		d.sh(`for unit in dso-agent.service dso-runtime.socket; do
	sed 's/\(^\|[ =]\)docker\.service/\1nothing.service/g' "$(systemctl show --value -p FragmentPath $unit)" > /etc/systemd/system/$unit.other
	mv /etc/systemd/system/$unit.other /etc/systemd/system/$unit
done; systemctl daemon-reload`)
		assert.Equal(t, d.check(order).Status, doctor.Warn)
	})
}
