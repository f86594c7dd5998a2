package host

import "testing"

func TestSmoke(t *testing.T) {
	d := newHost(t)
	t.Log(d.run("systemctl", "--failed", "--no-pager"))
	t.Log(d.run("docker", "info"))
}
