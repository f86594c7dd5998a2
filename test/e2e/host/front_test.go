package host

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

const fronted = `services:
  web:
    image: answerer:test
    ports: ["8080:8080"]
    restart: always
    environment: {APP_SECRET: "dso://app/marker"}
    labels: {dso.monitor: 100ms}
    healthcheck: {test: [CMD, /answerer, healthcheck], interval: 2s, timeout: 20s, retries: 5}
`

// shop is a project with a front, whose container has been changed over.
func (d *debian) shop() {
	d.t.Helper()
	assert.NilError(d.t, d.Write("/srv/shop/compose.yaml", fronted, 0o644))
	d.sh("cd /srv/shop && docker dso up -d --wait")
	d.set("app/marker", "v2")
	d.answers("v2")
}

// answer is what the published port answers, empty when it does not.
func (d *debian) answer() string {
	out, err := d.Run(d.t.Context(), "/root/answerer", "get", "http://127.0.0.1:8080/")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// answers waits for the first answer, which must be the right one.
func (d *debian) answers(want string) {
	d.t.Helper()
	got := ""
	d.eventually("the published port answers", func() bool {
		got = d.answer()
		return got != ""
	})
	assert.Equal(d.t, got, want)
}

// A front comes back with its map, whichever of the agent, the engine and the application
// is there first: the port leads to the container that is current or to none.
func TestBoot_FrontsAndTheirMapsAreBack(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newInstalled(t, m)
		d.shop()
		whole := func() {
			t.Helper()
			d.agentActive()
			d.answers("v2")
			d.set("app/marker", "v3") // and it can be changed over
			d.answers("v3")
			d.set("app/marker", "v2")
			d.answers("v2")
		}
		assert.NilError(t, d.ShutDown())
		assert.NilError(t, d.SwitchOn(t.Context()))
		whole()

		d.reboot()
		whole()

		release := m.hold(d)
		d.reboot()
		release()
		whole()

		// Without an agent and without a start, the front's port has the map of before.
		m.stop(d)
		d.run("docker", "restart", "shop-web-front-1")
		d.answers("v2")
	})
}

// anotherHost is a network of its own, which the host forwards for.
func (d *debian) anotherHost() {
	d.t.Helper()
	d.sh(`ip netns add client
ip link add to-client type veth peer name to-host netns client
ip address add 10.99.0.1/24 dev to-client; ip link set to-client up
nsenter --net=/run/netns/client sh -ec "ip address add 10.99.0.2/24 dev to-host; ip link set to-host up; ip route add default via 10.99.0.1"`)
}

// outside is what the published port answers the other host.
func (d *debian) outside(path string) string {
	out, err := d.Run(d.t.Context(), "nsenter", "--net=/run/netns/client", "/root/answerer", "get", "http://10.99.0.1:8080/"+path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// What comes from another host takes the fast lane, through the engine's firewall; and an
// uninstallation leaves nothing of it there, although the agent was killed.
func TestUninstall_OfAKilledAgentLeavesNothingOfTheFastLane(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		d := newHost(t, m)
		d.engineAnswers()
		d.images()
		bare := d.picture()
		d.setUp()
		d.anotherHost()
		d.shop()
		d.eventually("the application sees the client's own address", func() bool { return d.outside("client") == "10.99.0.2" })
		assert.Equal(t, d.outside(""), "v2")

		m.kill(d)
		assert.Assert(t, strings.Contains(d.picture()["firewall"], "dso fast lane"), "who is killed cleans nothing up")
		d.sh("cd /srv/shop && docker dso down && rm -r /srv/shop")
		d.run("docker", "dso", "setup", "--uninstall", "--yes", "--purge")
		d.run("apt-get", "purge", "-y", "-qq", "docker-dso")
		assert.DeepEqual(t, different(bare, d.picture()), []string(nil))
	})
}
