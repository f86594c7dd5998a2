package doctor

import (
	"fmt"
	"strconv"
	"strings"
)

// AgentContainer is the target of a repair that is about the agent's container.
const AgentContainer = "container dso-agent"

func startsAtBoot(f Facts) finding {
	s := f.Systemd
	switch {
	case f.ByEngine.Present && f.ByEngine.Enabled:
		return good("the engine starts the agent's container")
	case f.ByEngine.Present:
		return warn("the engine does not start the agent's container", "after a reboot containers that need a secret would not start", "docker dso system enable").
			with(Fix{Kind: FixEnable, Target: AgentContainer, What: "docker dso system enable"})
	case !s.Present:
		return info("systemd does not run here: something else has to start the agent at boot")
	case !s.Unit:
		return warn("there is no unit dso-agent.service", "the agent was not installed as a service", "docker dso setup installs one, so that the agent is there after a reboot")
	case !s.Enabled:
		return warn("dso-agent is not enabled", "after a reboot containers that need a secret would not start", "systemctl enable dso-agent").
			with(Fix{Kind: FixEnable, Target: "dso-agent", What: "systemctl enable dso-agent"})
	}
	return good("enabled")
}

func bootOrder(f Facts) finding {
	s := f.Systemd
	switch {
	case f.ByEngine.Present:
		return good("the engine starts the agent with the other containers, and their starts wait for it")
	case !s.Present || !s.Unit:
		return info("no unit to look at")
	case !s.BeforeDocker:
		return warn("neither dso-agent.service nor dso-runtime.socket is ordered before docker.service", "at boot the engine starts containers before somebody can give them their secrets; the agent starts them afterwards, later than need be",
			"docker dso setup installs units that are", "or Before=docker.service in the unit, then systemctl daemon-reload")
	}
	return good("before docker.service")
}

func configuration(f Facts) finding {
	switch {
	case len(f.Config.Problems) > 0:
		return fail(lines(f.Config.Problems), "the file cannot be used: a running agent keeps the last good one, and none starts on this one",
			"docker dso config edit", "docker dso config validate shows every problem with its line")
	case f.Config.File == "":
		return good("no file: the local vault only")
	}
	return good("%s", f.Config.File)
}

// oldestCompose is the version of Docker Compose that has everything the fronts use.
const oldestCompose = 20 // of 2.x: !reset in model files came with 2.18, more of it with 2.20

func composeVersion(f Facts) finding {
	c := f.Compose
	if c.Err != "" {
		return warn(c.Err, "docker compose is not installed: docker dso up, down and compose need it", "install docker-compose-plugin")
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(c.Version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err1 := strconv.Atoi(major)
	n, err2 := strconv.Atoi(minor)
	if err1 == nil && err2 == nil && (m < 2 || m == 2 && n < oldestCompose) {
		return fail(c.Version, "it is too old for the model file that DSO adds", fmt.Sprintf("update docker-compose-plugin to 2.%d or later", oldestCompose))
	}
	return good("%s", c.Version)
}

func auditChain(f Facts) finding {
	switch {
	case f.Audit.Err != "":
		return unseen(f.Audit.Err)
	case len(f.Audit.Problems) > 0:
		return fail(lines(f.Audit.Problems), "somebody changed the audit log, or the disk lost a part of it",
			"docker dso audit verify shows every place", "keep a copy of /var/lib/dso/audit for whoever has to know")
	}
	return good("%s", plural(f.Audit.Records, "record"))
}
