package doctor

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

func stateReadable(f Facts) finding {
	var bad []string
	n := 0
	for _, s := range f.State {
		switch {
		case s.Err != "":
			bad = append(bad, s.Path+": "+s.Err)
		case !s.Missing:
			n++
		}
	}
	switch {
	case len(bad) > 0 && !f.Root:
		return unseen(bad[0])
	case len(bad) > 0:
		return fail(lines(bad), "the disk was full or failed, or somebody edited it. The running agent has its content in memory; the next one takes the generation before and rebuilds the rest from the containers",
			"systemctl restart dso-agent reads it again, and moves aside what cannot be read", "df -h and dmesg say whether the disk is the cause")
	}
	return good("%s", plural(n, "file"))
}

func nothingAside(f Facts) finding {
	var aside []string
	var fixes []Fix
	for _, s := range f.State {
		if s.Err != "" && !f.Root { // nor could the directory be
			return unseen(s.Path + ": " + s.Err)
		}
		for _, q := range s.Quarantined {
			aside = append(aside, q)
			fixes = append(fixes, Fix{Kind: FixQuarantine, Target: q, What: "remove " + q})
		}
	}
	if len(aside) == 0 {
		return good("none")
	}
	return warn(lines(aside), "an agent found the file damaged, and went on without it; nothing is lost that the containers can tell",
		"look at it, then remove it: nobody reads it again").with(fixes...)
}

func noStaleLocks(f Facts) finding {
	if f.LocksUnseen != "" {
		return unseen(f.LocksUnseen)
	}
	var stale []string
	var fixes []Fix
	for _, l := range f.Locks {
		if l.Held {
			continue
		}
		why := "nobody holds it"
		if l.Err != "" {
			why = l.Err
		}
		stale = append(stale, fmt.Sprintf("%s, %s old: %s", l.Path, l.Age.Round(time.Second), why))
		fixes = append(fixes, Fix{Kind: FixLock, Target: l.Path, What: "remove " + l.Path + ", which nobody holds", Safe: true})
	}
	if len(stale) == 0 {
		return good("%s held", plural(len(f.Locks), "lock"))
	}
	return warn(lines(stale), "a process ended without removing its lock file. It hinders no rotation: the kernel holds locks, not files",
		"docker dso doctor --fix removes them", "the agent removes them at its next start").with(fixes...)
}

func diskSpace(f Facts) finding {
	return space(f.Disks, func(d Disk) (free, total uint64) { return d.Free, d.Total }, "bytes",
		"rotations stop where they stand when a record cannot be written, and the engine starts nothing",
		"df -h", "docker system df", "docker image prune")
}

func inodes(f Facts) finding {
	return space(f.Disks, func(d Disk) (free, total uint64) { return d.FreeInodes, d.TotalInodes }, "inodes",
		"no file can be made although there is space", "df -i", "find the directory with the most files: du --inodes -x / | sort -n | tail")
}

// space judges what is free: less than one in a hundred is a failure, less than one in
// twenty a warning.
func space(disks []Disk, of func(Disk) (free, total uint64), unit, cause string, recovery ...string) finding {
	worst := Pass
	var bad []string
	for _, d := range disks {
		free, total := of(d)
		if d.Err != "" || total == 0 {
			continue
		}
		line := fmt.Sprintf("%s: %d of %d %s free (%.1f%%)", d.Path, free, total, unit, 100*float64(free)/float64(total))
		switch {
		case free*100 < total:
			worst = Fail
			bad = append(bad, line)
		case free*20 < total:
			if worst == Pass {
				worst = Warn
			}
			bad = append(bad, line)
		}
	}
	if worst == Pass {
		return good("%s", plural(len(disks), "file system"))
	}
	return finding{status: worst, detail: lines(bad), cause: cause, recovery: recovery}
}

// skew is how far the engine's clock may be from the host's.
const skew = 5 * time.Second

func clock(f Facts) finding {
	switch off := f.Engine.Offset.Abs(); {
	case f.Engine.Err == "" && off > skew:
		return warn(fmt.Sprintf("the engine's clock is off by %s", off.Round(time.Second)), "the engine runs on another host, or the clock was set just now",
			"docker dso is for the engine of its own host")
	case f.Clock.Known && !f.Clock.Synchronized:
		return warn("the kernel says that the clock is not synchronized", "no NTP client runs, or it has no server. Credentials, leases and signatures have times in them",
			"timedatectl set-ntp true, or install chrony", "timedatectl shows whether it works")
	case !f.Clock.Known:
		return info("the kernel does not say whether the clock is synchronized")
	}
	return good("synchronized")
}

func permissions(f Facts) finding {
	var bad []string
	var fixes []Fix
	seen := 0
	for _, p := range f.Paths {
		switch {
		case p.Missing && p.Needed && f.Agent.Reached:
			bad = append(bad, p.Path+" is missing")
		case p.Missing:
		case p.Err != "":
			if f.Root {
				bad = append(bad, p.Path+": "+p.Err)
			}
		case p.Dir != p.Mode.IsDir():
			bad = append(bad, fmt.Sprintf("%s is %s", p.Path, kind(p.Mode)))
		case p.Mode.Perm()&^p.Most != 0:
			seen++
			bad = append(bad, fmt.Sprintf("%s has mode %04o, and may have at most %04o", p.Path, p.Mode.Perm(), p.Most))
			narrow := p.Mode.Perm() & p.Most
			fixes = append(fixes, Fix{Kind: FixMode, Target: p.Path, Mode: uint32(narrow), What: fmt.Sprintf("chmod %04o %s", narrow, p.Path), Safe: true})
		default:
			seen++
		}
	}
	if len(bad) > 0 {
		return fail(lines(bad), "somebody changed it, or another program made it. What is too open can be read by users who may not",
			"docker dso doctor --fix makes modes narrower", "ls -la "+filepath.Dir(f.Paths[0].Path)).with(fixes...)
	}
	if seen == 0 {
		return unseen("this user sees none of them")
	}
	return good("%s", plural(seen, "path"))
}

func kind(m fs.FileMode) string {
	if m.IsDir() {
		return "a directory"
	}
	return "no directory"
}

func privateTmpfs(f Facts) finding {
	t := f.Tmpfs
	switch {
	case t.Err != "":
		return unseen(t.Err)
	case t.Type == "" && !f.Agent.Reached:
		return info(t.Path + " is not mounted: no agent has run since the boot")
	case t.Type == "":
		return fail("nothing is mounted on "+t.Path, "somebody unmounted it while the agent runs: values would lie on the disk", "systemctl restart dso-agent mounts it again", "then restart the containers that use files: docker restart CONTAINER")
	case t.Type != "tmpfs":
		return fail(fmt.Sprintf("%s is %s", t.Path, t.Type), "something else was mounted over it", "unmount it, then systemctl restart dso-agent")
	case t.Times > 1:
		return fail(fmt.Sprintf("%d file systems are mounted on %s", t.Times, t.Path), "containers that run see another one than the agent writes to", "unmount the upper ones while no container with files runs, then systemctl restart dso-agent")
	case !t.NoSwap:
		return warn(t.Path+" can be swapped out", "noswap for tmpfs came with Linux 6.4", "a kernel of 6.4 or later, or no swap, or an encrypted one")
	}
	return good("%s, noswap", t.Path)
}
