// Command dso-runtime is the OCI runtime that gives a starting container its
// secrets. It is registered in the engine's daemon.json and wraps runc.
package main

import (
	"os"

	"github.com/docker-secret-operator/dso/internal/ociruntime"
	"github.com/docker-secret-operator/dso/internal/stdlog"
)

func main() {
	stdlog.Silence()
	os.Exit(ociruntime.Main(os.Args[1:]))
}
