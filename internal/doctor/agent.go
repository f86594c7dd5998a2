package doctor

import (
	"fmt"
	"strings"
)

func agentAnswers(f Facts) finding {
	switch {
	case f.Agent.Reached:
		return good("version %s, up %s, %s", f.Agent.Status.Runtime.Version, f.Agent.Status.Runtime.Uptime, f.Agent.Status.Health)
	case f.Agent.Denied:
		return warn(f.Agent.Err, "this user may not open the agent's socket", "run it as root, or become a member of the group dso")
	case len(f.Agent.Processes) > 0:
		return fail(fmt.Sprintf("%s; dso-agent runs with pid %d", f.Agent.Err, f.Agent.Processes[0].PID),
			"an agent runs, but not on this socket: another --run-dir, it stands by, or it is just starting",
			"journalctl -u dso-agent -n 50", "docker dso --socket PATH status, with the socket of its --run-dir")
	}
	if f.ByEngine.Present {
		return fail(f.Agent.Err, "no agent runs: containers go on serving, but none that needs a secret can start, and none is changed over",
			"docker dso system enable", "docker dso system logs -n 50 says why it ended").
			with(Fix{Kind: FixStart, Target: AgentContainer, What: "docker dso system enable"})
	}
	out := fail(f.Agent.Err, "no agent runs: containers go on serving, but none that needs a secret can start, and none is changed over",
		"systemctl start dso-agent", "journalctl -u dso-agent -n 50 says why it ended")
	if f.Systemd.Unit {
		out = out.with(Fix{Kind: FixStart, Target: "dso-agent", What: "systemctl start dso-agent"})
	}
	return out
}

func oneAgent(f Facts) finding {
	var working []string
	for _, p := range f.Agent.Processes {
		if !p.Standby {
			working = append(working, fmt.Sprintf("pid %d: %s", p.PID, strings.Join(p.Args, " ")))
		}
	}
	if len(working) > 1 {
		return fail(lines(working), "two agents work on this host. On one engine they would undo each other's rotations; the locks keep them apart only when --lock-dir is the same",
			"systemctl list-units 'dso*' shows who starts them", "docker dso locks shows which one has the engine", "stop the one that is too many, by its pid")
	}
	if len(working) == 0 {
		return info("no agent of this host is seen to run")
	}
	return good("%s", working[0])
}

func versionsFit(f Facts) finding {
	v := f.Agent.Status.Runtime.Version
	switch {
	case !f.Agent.Reached:
		return unseen(f.Agent.Err)
	case v != f.Version:
		return warn(fmt.Sprintf("the agent is %s, this command line %s", v, f.Version), "one of them was not updated, or the agent not restarted since",
			"update both, then systemctl restart dso-agent: no container is interrupted")
	}
	return good("%s", v)
}

func rotationsMove(f Facts) finding {
	if !f.Agent.Reached {
		return unseen(f.Agent.Err)
	}
	r := f.Agent.Status.Rotations
	var stuck []string
	for _, o := range r.Open {
		if o.NeedsPerson {
			stuck = append(stuck, fmt.Sprintf("%s at step %s since %s: %s", o.Container, o.Step, o.Age, o.Error))
		}
	}
	if len(stuck) > 0 {
		return fail(lines(stuck), "a rotation could neither go on nor back by itself",
			"docker dso rotations shows which, and why", "remove the cause, then docker dso recover", "docker dso recover --mark-recovered KEY ends one by your word").
			with(Fix{Kind: FixRecover, What: "try again the rotations that need a person (docker dso recover)"})
	}
	return good("%d pending, %d successful, %d failed", r.Pending, r.Successful, r.Failed)
}

func providersAnswer(f Facts) finding {
	if !f.Agent.Reached {
		return unseen(f.Agent.Err)
	}
	var down, up []string
	for _, p := range f.Agent.Status.Providers {
		if p.Status != "ok" {
			down = append(down, p.Name+": "+p.Message)
		} else {
			up = append(up, p.Name)
		}
	}
	if len(down) > 0 {
		return fail(lines(down), "the store does not answer, or does not accept the credential. Containers start with the values that they had before",
			"docker dso status shows since when, and when it is tried again", "check the address and the credential in dso.yaml; systemctl reload dso-agent reads its files again")
	}
	return good("%s", strings.Join(up, ", "))
}

func valuesCurrent(f Facts) finding {
	if !f.Agent.Reached {
		return unseen(f.Agent.Err)
	}
	var old []string
	for _, c := range f.Agent.Status.Containers {
		switch {
		case c.Stale != nil:
			old = append(old, fmt.Sprintf("%s has values of %s ago: %s", c.Name, c.Stale.Age, c.Stale.Cause))
		case c.Pin != nil && len(c.Pin.Failed) > 0 && !c.UpToDate:
			old = append(old, c.Name+" is pinned: it did not work with the current versions")
		case !c.UpToDate && c.Rotation == nil && c.Held == "":
			old = append(old, c.Name+" does not have the current versions: "+c.Error)
		}
	}
	if len(old) > 0 {
		return warn(lines(old), "a store did not answer when the container started, or the new version did not pass its health gate",
			"docker dso status", "store a version that works: docker dso secret set NAME; or go back: docker dso secret rollback NAME", "docker dso rotate CONTAINER tries the current one again")
	}
	return good("%s", plural(len(f.Agent.Status.Containers), "container"))
}

func frontsApply(f Facts) finding {
	switch {
	case !f.Agent.Reached:
		return unseen(f.Agent.Err)
	case f.Agent.PartErr != "":
		return unseen(f.Agent.PartErr)
	}
	var bad []string
	for _, fr := range f.Agent.Fronts {
		switch why := fr.Wrong(); {
		case why != "" && (fr.Needed || fr.Running):
			bad = append(bad, why)
		case !fr.Running: // with its service
		case fr.Ordered > 0 && fr.Applied != fr.Ordered:
			bad = append(bad, fmt.Sprintf("front %s of %s has generation %d in force, and %d is ordered", fr.Container, fr.Key, fr.Applied, fr.Ordered))
		}
	}
	if len(bad) > 0 {
		return fail(lines(bad), "the front was stopped, its tables were removed (such as by nft flush ruleset inside), or its map was damaged",
			"docker start FRONT, or docker restart FRONT: it reads its map and writes its tables anew", "docker dso up -d makes one that is gone")
	}
	return good("%s", plural(len(f.Agent.Fronts), "front"))
}
