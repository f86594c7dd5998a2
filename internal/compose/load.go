package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/consts"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/compose-spec/compose-go/v2/utils"
	"github.com/docker/cli/pkg/kvfile"
	"go.yaml.in/yaml/v4"
)

// ErrNoFile says that neither the options nor the working directory name a Compose file.
var ErrNoFile = errors.New("no compose file here or in a parent directory")

// ErrStdin says that the Compose file is to come from standard input. It could be read
// only once, and docker compose has to read it after DSO.
var ErrStdin = errors.New("a compose file from standard input is not supported: save it to a file and use -f <file>")

// ErrFile says that a Compose file cannot be read.
var ErrFile = errors.New("compose file")

// Options are the options of docker compose that choose a project. The zero
// value means the project of the current directory. The environment
// (COMPOSE_FILE and the like) is read as docker compose reads it.
type Options struct {
	Files            []string // -f
	Profiles         []string // --profile
	EnvFiles         []string // --env-file
	ProjectDirectory string   // --project-directory
	ProjectName      string   // -p
}

// Project is a loaded project. It is immutable.
type Project struct {
	Name        string
	WorkingDir  string   // absolute
	ConfigFiles []string // absolute, in the order of docker compose, without DSO's overlay

	model     *types.Project
	services  []Service
	adopted   map[string]map[string]string         // by service: labels that its update_config stands for
	claimed   map[string][]types.ServicePortConfig // by service: ports of its label dso.host_ports
	separator string                               // between the parts of a container's name
}

// Load loads a project. Every malformed reference in it is an error, joined
// into one; see [Service]. The error wraps [ErrNoFile] or [ErrStdin], or is
// docker compose's own.
func Load(ctx context.Context, opts Options) (*Project, error) {
	p, err := read(ctx, opts)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// read is [Load], with what can be used of a project that is wrong in itself.
func read(ctx context.Context, opts Options) (*Project, error) {
	o, err := projectOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("load compose project: %w", err)
	}
	if len(o.ConfigPaths) == 0 {
		return nil, fmt.Errorf("load compose project: %w", ErrNoFile)
	}
	model, err := o.LoadProject(ctx)
	if err != nil {
		return nil, fmt.Errorf("load compose project: %w", inFile(o.ConfigPaths, err))
	}
	if model.Name == "" {
		return nil, errors.New("load compose project: it has no name, use -p <name>")
	}
	p := &Project{Name: model.Name, WorkingDir: model.WorkingDir, ConfigFiles: model.ComposeFiles, model: model, adopted: map[string]map[string]string{}, claimed: map[string][]types.ServicePortConfig{}, separator: "-"}
	if utils.StringToBool(o.Environment["COMPOSE_COMPATIBILITY"]) {
		p.separator = "_"
	}
	var errs []error
	p.services, err = services(model)
	errs = append(errs, err)
	for _, name := range slices.Sorted(maps.Keys(model.Services)) {
		s := model.Services[name]
		ports, err := hostPorts(s)
		errs = append(errs, err)
		s.Ports = append(s.Ports, ports...)
		p.claimed[name] = ports
		model.Services[name], p.adopted[name] = adopt(s)
	}
	return p, errors.Join(errs...)
}

// inFile names the file that is not there or not YAML: the loader only says on which line it
// is not.
func inFile(files []string, failed error) error {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFile, err)
		}
		var anything yaml.Node
		if yaml.Unmarshal(content, &anything) != nil {
			return fmt.Errorf("%w %s: %w", ErrFile, file, failed)
		}
	}
	return failed
}

// ProjectName returns the name of the project that [Load] would load, without
// loading it: an unset variable or an error elsewhere in the files does not
// matter. It is empty when there is no Compose file and no name was given.
func ProjectName(_ context.Context, opts Options) (string, error) {
	o, err := projectOptions(opts)
	if err != nil {
		return "", fmt.Errorf("name of compose project: %w", err)
	}
	for _, name := range []string{o.Name, o.Environment[consts.ComposeProjectName]} {
		if name == "" {
			continue
		}
		if loader.NormalizeProjectName(name) != name {
			return "", fmt.Errorf("name of compose project: %w", loader.InvalidProjectNameErr(name))
		}
		return name, nil
	}
	if len(o.ConfigPaths) == 0 {
		return "", nil
	}
	name, err := nameInFiles(o)
	if err != nil || name != "" {
		return name, err
	}
	dir, err := o.GetWorkingDir()
	if err != nil {
		return "", fmt.Errorf("name of compose project: %w", err)
	}
	return loader.NormalizeProjectName(filepath.Base(dir)), nil
}

// nameInFiles returns what the last "name:" of the files says.
func nameInFiles(o *cli.ProjectOptions) (string, error) {
	var last string
	for _, file := range o.ConfigPaths {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("name of compose project: %w", err)
		}
		for documents := yaml.NewDecoder(bytes.NewReader(content)); ; {
			var named struct {
				Name string `yaml:"name"`
			}
			if err := documents.Decode(&named); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return "", fmt.Errorf("name of compose project: %s is not valid YAML", file)
			}
			if named.Name != "" {
				last = named.Name
			}
		}
	}
	lookup := func(key string) (string, bool) { v, ok := o.Environment[key]; return v, ok }
	name, err := template.Substitute(last, lookup)
	if err != nil {
		return "", fmt.Errorf("name of compose project: %w", err)
	}
	return loader.NormalizeProjectName(name), nil
}

// Files returns the Compose files that the options mean, absolute and in the order of
// docker compose, and the project's directory. They are not read.
func Files(opts Options) (files []string, dir string, err error) {
	o, err := projectOptions(opts)
	if err != nil {
		return nil, "", fmt.Errorf("find compose files: %w", err)
	}
	if len(o.ConfigPaths) == 0 {
		return nil, "", fmt.Errorf("find compose files: %w", ErrNoFile)
	}
	for _, path := range o.ConfigPaths {
		if path, err = filepath.Abs(path); err != nil {
			return nil, "", fmt.Errorf("find compose files: %w", err)
		}
		files = append(files, path)
	}
	dir, err = o.GetWorkingDir()
	return files, dir, err
}

// projectOptions builds the options in the order of docker compose v5: each
// step sees what the ones before it found. The files and .env files are looked
// for twice because the first pass may move the working directory.
func projectOptions(opts Options) (*cli.ProjectOptions, error) {
	registerRaw()
	envFiles := opts.EnvFiles
	if len(envFiles) == 0 {
		envFiles = strings.FieldsFunc(os.Getenv("COMPOSE_ENV_FILES"), func(r rune) bool { return r == ',' })
	}
	fns := []cli.ProjectOptionsFn{cli.WithWorkingDirectory(opts.ProjectDirectory), cli.WithOsEnv}
	if _, present := os.LookupEnv("PWD"); !present {
		pwd, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		fns = append(fns, cli.WithEnv([]string{"PWD=" + pwd}))
	}
	fns = append(fns,
		cli.WithEnvFiles(envFiles...), cli.WithDotEnv,
		cli.WithConfigFileEnv, cli.WithDefaultConfigPath,
		cli.WithEnvFiles(envFiles...), cli.WithDotEnv,
		cli.WithDefaultProfiles(opts.Profiles...), cli.WithName(opts.ProjectName),
	)
	o, err := cli.NewProjectOptions(slices.Clone(opts.Files), fns...)
	if err != nil {
		return nil, err
	}
	if slices.Contains(o.ConfigPaths, "-") {
		return nil, ErrStdin
	}
	o.ConfigPaths = slices.DeleteFunc(o.ConfigPaths, isOverlay)
	return o, nil
}

// registerRaw makes "format: raw" of an env_file known, as docker compose does.
var registerRaw = sync.OnceFunc(func() {
	dotenv.RegisterFormat("raw", func(r io.Reader, file string, vars map[string]string, lookup func(string) (string, bool)) error {
		lines, err := kvfile.ParseFromReader(r, lookup)
		if err != nil {
			return fmt.Errorf("read env_file %s: %w", file, err)
		}
		for _, line := range lines {
			key, value, _ := strings.Cut(line, "=")
			vars[key] = value
		}
		return nil
	})
})
