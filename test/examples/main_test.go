// Package examples runs each example of the repository as its README says, with Debian's
// packages in the place of the official images.
package examples

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker-secret-operator/dso/test/lab"
)

// The tests share one engine and one agent. Those under load come one after the other.
var shared *lab.Lab

const root = "../.."

// apps is the image with all the software of the examples.
const apps = "apps:test"

// images are the variables by which the Compose files take another image, and what the
// official one runs when nothing is said.
var images = map[string]string{"POSTGRES_IMAGE": "postgres", "MYSQL_IMAGE": "mysqld", "REDIS_IMAGE": "redis-server", "NODE_IMAGE": "node", "DJANGO_IMAGE": "python3"}

func TestMain(m *testing.M) { os.Exit(lab.Main(m, root, &shared, prepare)) }

func prepare(ctx context.Context) error {
	if err := importApps(ctx); err != nil {
		return err
	}
	if err := shared.StartAgent(ctx); err != nil {
		return err
	}
	_, err := shared.DSO(ctx, "init")
	return err
}

// importApps makes the image from what make tools/bin/apps/.made has left, in one copy, and
// one name for each official image.
func importApps(ctx context.Context) error {
	tree, err := filepath.Abs(filepath.Join(root, "tools", "bin", "apps"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(tree, ".made")); err != nil {
		return fmt.Errorf("%w: run make tools/bin/apps/.made", err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	const pack = `set -o pipefail
tar --numeric-owner --transform 's,^docker-entrypoint,usr/local/bin/docker-entrypoint,' -c -C "$0" . -C "$1" docker-entrypoint.sh |
	docker import --change 'ENTRYPOINT ["docker-entrypoint.sh"]' - "$2"`
	if err := run(shared.Command(ctx, "bash", "-ec", pack, tree, here, apps)); err != nil {
		return err
	}
	for variable, program := range images {
		build := shared.Command(ctx, "docker", "build", "-q", "-t", imageOf(variable), "-")
		build.Env = append(build.Env, "DOCKER_BUILDKIT=0") // the builder that every engine has
		build.Stdin = strings.NewReader(fmt.Sprintf("FROM %s\nCMD [%q]\n", apps, program))
		if err := run(build); err != nil {
			return err
		}
	}
	return nil
}

// imageOf is the test's image for a variable of the Compose files.
func imageOf(variable string) string {
	name, _, _ := strings.Cut(strings.ToLower(variable), "_")
	return name + ":test"
}
