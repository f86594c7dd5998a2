package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// oldest engine API that DSO works with.
const oldestAPI = 41 // 1.41, engine 20.10

func engineAnswers(f Facts) finding {
	if f.Engine.Err == "" {
		return good("%s", f.Engine.Socket)
	}
	return fail(f.Engine.Err, "the engine does not run, or this user may not use its socket",
		"systemctl status docker", "run it as root, or become a member of the group docker")
}

func engineVersion(f Facts) finding {
	if f.Engine.Err != "" {
		return unseen(f.Engine.Err)
	}
	_, minor, _ := strings.Cut(f.Engine.API, ".")
	if n, err := strconv.Atoi(minor); err == nil && n < oldestAPI {
		return fail(fmt.Sprintf("engine %s, API %s", f.Engine.Version, f.Engine.API), "the engine is too old", "update Docker Engine to 20.10 or later")
	}
	return good("engine %s, API %s", f.Engine.Version, f.Engine.API)
}

const registerHint = `docker dso setup registers it; or add {"runtimes": {"dso": {"path": "/usr/local/bin/dso-runtime"}}} to /etc/docker/daemon.json, then systemctl reload docker`

func runtimeRegistered(f Facts) finding {
	if f.Engine.Err != "" {
		return unseen(f.Engine.Err)
	}
	r, there := f.Engine.Runtimes["dso"]
	if !there {
		return fail("there are "+strings.Join(slices.Sorted(maps.Keys(f.Engine.Runtimes)), ", "),
			"the engine was not told of dso-runtime, or read another daemon.json", registerHint)
	}
	detail := r.Path
	if f.Engine.DefaultRuntime == "dso" {
		detail += ", the default runtime"
	}
	return good("%s", detail)
}

func runtimeWorks(f Facts) finding {
	r, there := f.Engine.Runtimes["dso"]
	switch {
	case f.Engine.Err != "":
		return unseen(f.Engine.Err)
	case !there:
		return info("it is not registered")
	case r.Err != "":
		return fail(r.Path+": "+r.Err, "the program is missing, may not be executed, or does not find runc",
			"make install puts it in its place", registerHint, "--dso-runtime=PATH in runtimeArgs names another runc")
	}
	return good("%s", r.Path)
}

func noDual(f Facts) finding {
	if f.Engine.Err != "" {
		return unseen(f.Engine.Err)
	}
	changing := map[string]bool{}
	for _, o := range f.Agent.Status.Rotations.Open {
		changing[o.Container] = true
	}
	places := map[string][]Container{}
	for _, c := range f.Engine.Containers {
		if c.State == "running" && c.Project != "" && c.Service != "" && c.FrontOf == "" {
			place := c.Project + "/" + c.Service + " number " + c.Number
			places[place] = append(places[place], c)
		}
	}
	var dual []string
	for _, place := range slices.Sorted(maps.Keys(places)) {
		all := places[place]
		names := []string{}
		busy := false
		for _, c := range all {
			names = append(names, c.Name)
			busy = busy || changing[c.Name]
		}
		if len(all) > 1 && !busy {
			dual = append(dual, place+": "+strings.Join(names, ", "))
		}
	}
	if len(dual) > 0 {
		return fail(lines(dual), "two containers of one place run: a rotation of an older version was cut off, or somebody started a copy",
			"docker dso recover --adopt-legacy --dry-run says which one is a copy", "docker stop the copy, then docker rm it; volumes stay")
	}
	return good("%s", plural(len(places), "place"))
}

func containersHealthy(f Facts) finding {
	if f.Engine.Err != "" {
		return unseen(f.Engine.Err)
	}
	var bad []string
	n := 0
	for _, c := range f.Engine.Containers {
		if c.References == 0 || c.Runtime != "dso" {
			continue
		}
		n++
		switch {
		case c.Error != "":
			bad = append(bad, fmt.Sprintf("%s is %s: %s", c.Name, c.State, c.Error))
		case c.State == "restarting" || c.State == "dead":
			bad = append(bad, fmt.Sprintf("%s is %s (restarted %d times)", c.Name, c.State, c.RestartCount))
		case c.Health == "unhealthy":
			bad = append(bad, c.Name+" is unhealthy")
		}
	}
	if len(bad) > 0 {
		return fail(lines(bad), "it was refused its secrets, does not work with them, or has a failure of its own",
			"docker logs CONTAINER", "docker dso inspect CONTAINER shows which secrets it should have", "docker start CONTAINER, when the reason is gone")
	}
	return good("%s with references", plural(n, "container"))
}

func noLeftovers(f Facts) finding {
	if f.Engine.Err != "" {
		return unseen(f.Engine.Err)
	}
	var left []string
	for _, c := range f.Engine.Containers {
		intermediate := strings.Contains(c.Name, "_dso_new_") || strings.Contains(c.Name, "_dso_backup_")
		if c.Rotation != "" && intermediate && f.Agent.Reached && len(f.Agent.Status.Rotations.Open) == 0 {
			left = append(left, c.Name+": of a rotation that is over")
		}
	}
	adoptable := false
	for _, l := range f.Agent.Leftovers {
		if l.Kind == "container" {
			left = append(left, fmt.Sprintf("%s: of an older version, %s: %s", l.Name, l.Do, l.Why))
			adoptable = adoptable || l.Do != "report"
		}
	}
	if len(left) == 0 {
		if !f.Agent.Reached {
			return unseen(f.Agent.Err)
		}
		return good("none")
	}
	out := warn(lines(left), "an older version, or a person, ended in the middle of a change",
		"docker dso recover --adopt-legacy --dry-run shows what would be done with each", "docker dso recover --adopt-legacy does it")
	if adoptable {
		out = out.with(Fix{Kind: FixLeftovers, What: "deal with the leftovers whose case is clear (docker dso recover --adopt-legacy)"})
	}
	return out
}

func runtimeUsed(f Facts) finding {
	if f.Engine.Err != "" {
		return unseen(f.Engine.Err)
	}
	var other []string
	for _, c := range f.Engine.Containers {
		if c.References > 0 && c.Runtime != "dso" {
			other = append(other, fmt.Sprintf("%s has the runtime %s, and is %s", c.Name, c.Runtime, c.State))
		}
	}
	if len(other) > 0 {
		return fail(lines(other), "the container sees the references instead of the values, and may have ended because of that: it was made without the runtime dso",
			"docker dso up -d makes the containers of a project with it", "or runtime: dso in its Compose file, or docker run --runtime dso")
	}
	return good("all of them")
}
