// Package packaging holds the files that go onto a host as they are. The packages
// install them, and docker dso setup writes the same ones where no package did.
package packaging

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed systemd tmpfiles.d
var files embed.FS

// binDir is where the files say that the programs are.
const binDir = "/usr/bin/"

// Units are the units that are enabled, in this order, and Helpers those that others
// need.
var (
	Units   = []string{"dso-runtime.socket", "dso-agent.socket", "dso-agent.service"}
	Helpers = []string{"dso-prepare.service"}
)

// Unit returns the text of a unit for programs that lie in dir.
func Unit(name, dir string) []byte {
	return read("systemd/"+name, dir)
}

// Tmpfiles returns the tmpfiles.d(5) configuration.
func Tmpfiles() []byte { return read("tmpfiles.d/dso.conf", binDir) }

func read(name, dir string) []byte {
	data, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return []byte(strings.ReplaceAll(string(data), binDir+"dso-", strings.TrimSuffix(dir, "/")+"/dso-"))
}
