package address

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

const (
	otherHost = "10.231.0.2" // where the clients of the lab are
	web       = `
services:
  web:
    image: answerer:test
    ports: [%s]
    environment: {APP_SECRET: "dso://marker"}
    labels: {dso.monitor: 200ms}
`
)

// inLane waits until the lane takes a port: then the application sees the client.
func inLane(t *testing.T, port int) {
	t.Helper()
	lab.Eventually(t, "the fast lane takes the port", func() bool { return outside(t, url(port, "client")) == otherHost })
}

func byFront(t *testing.T, port int) {
	t.Helper()
	lab.Eventually(t, "the front takes the port", func() bool {
		from := outside(t, url(port, "client"))
		return from != "" && from != otherHost
	})
}

func TestLane_KeepsTheClientsAddressAndFollowsRotations(t *testing.T) {
	up(t, "lane", fmt.Sprintf(web, `"8301:8080"`))
	inLane(t, 8301)
	l, err := shared.StartLoad(t.Context(), url(8301, ""), "-rate", "200", "-keepalive")
	assert.NilError(t, err)
	for _, v := range []string{"v2", "v3"} {
		set(t, "lane/marker", v)
		assert.NilError(t, l.Floor(v))
		assert.Equal(t, outside(t, url(8301, "client")), otherHost)
	}
	r, err := l.Stop()
	assert.NilError(t, err)
	assert.Equal(t, r.Failed, 0, "%v", r.Errors)
	assert.Equal(t, r.WrongVersion, 0, "%v", r.Answers)
}

// What the lane does not take is served all the same.
func TestLane_LeavesTheHostItselfToTheFront(t *testing.T) {
	up(t, "own", fmt.Sprintf(web, `"8302:8080"`))
	inLane(t, 8302)
	for _, address := range []string{"127.0.0.1", "[::1]", shared.Address(), "[" + shared.Address6() + "]"} {
		assert.Equal(t, onHost(t, "http://"+address+":8302/"), "v1", address)
	}
	docker(t, "run", "--rm", "answerer:client", "get", url(8302, ""))
	docker(t, "run", "--rm", "--network", "own_default", "answerer:client", "get", url(8302, ""))
	assert.Equal(t, docker(t, "exec", "own-web-1", "/answerer", "get", url(8302, "")), "v1")
	// And the kernel does nothing for it that only costs time.
	network := fmt.Sprintf("--net=/proc/%d/ns/net", mainProcess(t, "own-web-front-1"))
	assert.Equal(t, host(t, "nsenter", network, "sysctl", "-n",
		"net.ipv4.conf.all.send_redirects", "net.ipv4.conf.eth0.send_redirects", "net.ipv4.ip_early_demux"), "0\n0\n0\n")
}

func TestLane_IsAsNarrowAsThePublishedPort(t *testing.T) {
	up(t, "narrow", fmt.Sprintf(web, `"127.0.0.1:8303:8080", "`+shared.Address()+`:8304:8080"`))
	inLane(t, 8304)
	assert.Equal(t, onHost(t, "http://127.0.0.1:8303/"), "v1")
	assert.Equal(t, outside(t, url(8303, "")), "")
	assert.Equal(t, onHost(t, "http://127.0.0.1:8304/"), "")
	assert.Assert(t, !strings.Contains(host(t, "nft", "list", "table", "inet", "dso_lane"), "8303"))
}

// The kernel takes the table away with the agent's socket.
func TestLane_IsGoneWithTheAgentAndComesBackWithTheNext(t *testing.T) {
	up(t, "killed", fmt.Sprintf(web, `"8305:8080"`))
	inLane(t, 8305)
	assert.NilError(t, shared.KillAgent())
	assert.Assert(t, !strings.Contains(tables(t), "dso_lane"))
	assert.Assert(t, outside(t, url(8305, "client")) != otherHost)
	assert.Equal(t, outside(t, url(8305, "")), "v1")
	assert.NilError(t, shared.StartAgent(t.Context()))
	inLane(t, 8305)
	assert.NilError(t, shared.StopAgent())
	assert.Assert(t, !strings.Contains(tables(t), "dso_lane"))
	assert.Assert(t, !strings.Contains(host(t, "iptables", "-S", "DOCKER-USER"), "dso"), "an agent that is asked to stop leaves nothing")
	assert.NilError(t, shared.StartAgent(t.Context()))
}

func TestLane_LapsesWhenTheAgentHangs(t *testing.T) {
	up(t, "hung", fmt.Sprintf(web, `"8306:8080"`))
	inLane(t, 8306)
	assert.NilError(t, syscall.Kill(shared.AgentPID(), syscall.SIGSTOP))
	defer func() { assert.NilError(t, syscall.Kill(shared.AgentPID(), syscall.SIGCONT)) }()
	byFront(t, 8306)
	assert.Equal(t, outside(t, url(8306, "")), "v1")
}

// Another container that gets the address of one that ended is never reached.
func TestLane_EndsWithTheProcessOfItsContainer(t *testing.T) {
	up(t, "gone", fmt.Sprintf(web, `"8307:8080"`)+"networks: {default: {ipam: {config: [{subnet: 10.88.7.0/24}]}}}\n")
	inLane(t, 8307)
	address := docker(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "gone-web-1")
	docker(t, "kill", "gone-web-1")
	lab.Eventually(t, "the route is gone", func() bool {
		return !strings.Contains(host(t, "nft", "list", "table", "inet", "dso_lane"), address)
	})
	docker(t, "run", "-d", "--rm", "--name", "heir", "--network", "gone_default", "--ip", address, "-e", "APP_SECRET=heir", "answerer:test")
	defer docker(t, "rm", "-f", "heir")
	lab.Eventually(t, "the heir answers at the address", func() bool { return onHost(t, "http://"+address+":8080/") == "heir" })
	assert.Assert(t, !strings.Contains(host(t, "nft", "list", "table", "inet", "dso_lane"), address))
	// The front keeps an address for the second that a rename may take, no longer.
	lab.Eventually(t, "the port refuses", func() bool { return outside(t, url(8307, "")) == "" })
	docker(t, "start", "gone-web-1")
	inLane(t, 8307)
	assert.Equal(t, outside(t, url(8307, "")), "v1")
}

func TestLane_SurvivesAFlushAndMendsTheEnginesFirewall(t *testing.T) {
	up(t, "flushed", fmt.Sprintf(web, `"8308:8080"`)+"    restart: always\n")
	inLane(t, 8308)
	host(t, "iptables", "-F", "DOCKER-USER")
	lab.Eventually(t, "the rule is back", func() bool { return strings.Contains(host(t, "iptables", "-S", "DOCKER-USER"), "dso fast lane") })
	inLane(t, 8308)
	host(t, "nft", "flush", "ruleset")
	assert.Assert(t, strings.Contains(tables(t), "dso_lane"), "nobody but its owner can flush it")
	assert.Equal(t, outside(t, url(8308, "client")), otherHost)
	// Docker's own rules come back with the engine.
	assert.NilError(t, shared.Stop())
	assert.NilError(t, shared.StartDaemon(t.Context()))
	lab.Eventually(t, "the service is back", func() bool { return outside(t, url(8308, "")) == "v1" })
}

func TestLane_MovesUDPFlows(t *testing.T) {
	up(t, "udp", fmt.Sprintf(web, `"8309:8080/udp", "8309:8080"`))
	inLane(t, 8309)
	l, err := shared.StartLoad(t.Context(), fmt.Sprintf("udp://%s:8309", shared.Address()), "-rate", "100", "-keepalive")
	assert.NilError(t, err)
	set(t, "udp/marker", "v2")
	assert.NilError(t, l.Floor("v2"))
	r, err := l.Stop()
	assert.NilError(t, err)
	assert.Equal(t, r.Failed, 0, "%v", r.Errors)
	assert.Equal(t, r.WrongVersion, 0, "%v", r.Answers)
}

// The answer that the old container owes comes long after the switch. It may not lead the client
// back there.
func TestLane_MovesUDPFlowsThatWaitForAnswers(t *testing.T) {
	up(t, "owing", strings.Replace(fmt.Sprintf(web, `"8311:8080/udp", "8311:8080"`), "}", `, UDP_DELAY: "400", DRAIN: "500"}`, 1))
	inLane(t, 8311)
	l, err := shared.StartLoad(t.Context(), fmt.Sprintf("udp://%s:8311", shared.Address()), "-rate", "2", "-keepalive")
	assert.NilError(t, err)
	for _, v := range []string{"v2", "v3"} {
		set(t, "owing/marker", v)
		assert.NilError(t, l.Floor(v))
	}
	r, err := l.Stop()
	assert.NilError(t, err)
	assert.Equal(t, r.Failed, 0, "%v", r.Errors)
	assert.Equal(t, r.WrongVersion, 0, "%v", r.Answers)
	assert.Assert(t, strings.Contains(tables(t), "table ip dso_lane"))
	assert.Assert(t, !strings.Contains(tables(t), "table ip6 dso_lane"), "this engine does not translate IPv6, so the host need not track it")
}

// What two containers owe that leave at the same moment is kept apart from each other.
func TestLane_MovesUDPFlowsOfReplicasThatLeaveAtOnce(t *testing.T) {
	service := strings.Replace(fmt.Sprintf(web, `"8312:8080/udp", "8312:8080"`), "}", `, UDP_DELAY: "400", DRAIN: "500"}`, 1)
	service = strings.Replace(service, "dso.monitor: 200ms", `dso.monitor: 200ms, dso.update.parallelism: "2"`, 1)
	up(t, "owingtwo", service+"    scale: 2\n")
	inLane(t, 8312)
	var loads []*lab.Load
	for range 6 { // some of them for each
		l, err := shared.StartLoad(t.Context(), fmt.Sprintf("udp://%s:8312", shared.Address()), "-rate", "2", "-keepalive")
		assert.NilError(t, err)
		loads = append(loads, l)
	}
	for _, v := range []string{"v2", "v3"} {
		set(t, "owingtwo/marker", v)
		for _, l := range loads {
			assert.NilError(t, l.Floor(v))
		}
	}
	for _, l := range loads {
		r, err := l.Stop()
		assert.NilError(t, err)
		assert.Equal(t, r.Failed, 0, "%v", r.Errors)
		assert.Equal(t, r.WrongVersion, 0, "%v", r.Answers)
	}
}

func TestLane_BalancesReplicas(t *testing.T) {
	up(t, "many", fmt.Sprintf(web, `"8310:8080"`)+"    scale: 3\n")
	lab.Eventually(t, "all three are in the lane", func() bool {
		return strings.Contains(host(t, "nft", "list", "table", "inet", "dso_lane"), "numgen inc mod 3")
	})
	l, err := shared.StartLoad(t.Context(), url(8310, ""), "-rate", "100")
	assert.NilError(t, err)
	set(t, "many/marker", "v2")
	assert.NilError(t, l.Floor("v2"))
	r, err := l.Stop()
	assert.NilError(t, err)
	assert.Equal(t, r.Failed, 0, "%v", r.Errors)
	assert.Equal(t, r.WrongVersion, 0, "%v", r.Answers)
}
