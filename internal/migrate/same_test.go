package migrate

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"gotest.tools/v3/assert"
)

// What Compose gives a container is the same before and after, byte by byte, when the
// references are resolved, and the variable is a reference wherever the plan says so.
func TestMake_ContainersGetWhatTheyHad(t *testing.T) {
	dotenv.RegisterFormat(raw, func(r io.Reader, _ string, vars map[string]string, look func(string) (string, bool)) error {
		text, err := io.ReadAll(r)
		if err == nil {
			_, err = parseEnv(string(text), raw, vars, look)
		}
		return err
	})
	for name, files := range shapes(t) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			in := Input{Project: "shop", Dir: dir, Environ: map[string]string{}, Read: os.ReadFile}
			for _, f := range files {
				f.Path = filepath.Join(dir, f.Path)
				assert.NilError(t, os.MkdirAll(filepath.Dir(f.Path), 0o700))
				assert.NilError(t, os.WriteFile(f.Path, f.Text, 0o600))
				switch base := filepath.Base(f.Path); {
				case filepath.Dir(f.Path) == dir && (strings.HasPrefix(base, "compose") || strings.HasPrefix(base, "docker-compose")):
					in.Compose = append(in.Compose, f)
				case base == ".env":
					in.Env = append(in.Env, f)
				}
			}
			plan, err := Make(in)
			assert.NilError(t, err)
			before := containers(t, dir, in.Compose, in.Env)
			for _, f := range plan.Files {
				assert.NilError(t, os.WriteFile(f.Path, f.Text, 0o600))
				for _, list := range []*[]File{&in.Compose, &in.Env} {
					fresh := slices.Clone(*list)
					for i := range fresh {
						if fresh[i].Path == f.Original {
							fresh[i].Path = f.Path
						}
					}
					*list = fresh
				}
			}
			after := containers(t, dir, in.Compose, in.Env)
			for _, s := range plan.Secrets {
				ref := "dso://" + strings.TrimPrefix(s.Name, "shop/")
				for variable, value := range after {
					if value == ref {
						after[variable] = string(s.Value.Reveal())
					}
					// A file of Compose's secrets has another path now.
					if value == strings.Replace(ref, "dso", "dsofile", 1) {
						delete(after, variable)
						delete(before, variable)
					}
				}
			}
			assert.DeepEqual(t, before, after)
		})
	}
}

// containers are the environments, commands and labels of all services.
func containers(t *testing.T, dir string, compose, env []File) map[string]string {
	t.Helper()
	var paths, envs []string
	for _, f := range compose {
		paths = append(paths, f.Path)
	}
	for _, f := range env {
		envs = append(envs, f.Path)
	}
	o, err := cli.NewProjectOptions(paths, cli.WithWorkingDirectory(dir), cli.WithName("shop"), cli.WithEnvFiles(envs...), cli.WithDotEnv, cli.WithDefaultProfiles("*"))
	assert.NilError(t, err)
	project, err := o.LoadProject(t.Context())
	assert.NilError(t, err)
	out := map[string]string{}
	for _, s := range project.Services {
		for name, value := range s.Environment {
			if value != nil {
				out[s.Name+" "+name] = *value
			}
		}
		out[s.Name+" command"] = fmt.Sprint(s.Command, s.Entrypoint, s.Labels, s.Image)
	}
	for name, secret := range project.Secrets {
		if secret.Content != "" {
			out["secret "+name] = secret.Content
		}
	}
	for name, config := range project.Configs {
		out["config "+name] = types.FileObjectConfig(config).Content
	}
	return out
}
