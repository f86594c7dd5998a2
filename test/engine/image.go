package testengine

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ImportBusybox makes an image with a shell: Debian's static busybox, its
// applets, the users root and app (1000), and /tmp. CMD is sh.
func (e *Engine) ImportBusybox(ctx context.Context, tag string) error {
	binary, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("import busybox: %w", err)
	}
	applets, err := exec.CommandContext(ctx, binary, "--list").Output()
	if err != nil {
		return fmt.Errorf("import busybox: list applets: %w", err)
	}
	var a archive
	for dir, mode := range map[string]int64{
		"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777, "data": 0o777, "var/run": 0o755,
	} {
		a.add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode}, nil)
	}
	a.addBinary(binary, "bin/busybox")
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	a.addFile("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n")
	a.addFile("etc/group", 0o644, "root:x:0:\napp:x:1000:\n")
	return e.importArchive(ctx, tag, &a, `CMD ["/bin/sh"]`, "ENV PATH=/bin")
}

func (e *Engine) importArchive(ctx context.Context, tag string, a *archive, changes ...string) error {
	content, err := a.bytes()
	if err != nil {
		return fmt.Errorf("import %s: %w", tag, err)
	}
	repo, version, _ := strings.Cut(tag, ":")
	query := url.Values{"fromSrc": {"-"}, "repo": {repo}, "tag": {version}, "changes": changes}
	if version == "" {
		query.Set("tag", "latest")
	}
	if err := e.upload(ctx, "/images/create", query, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("import %s: %w", tag, err)
	}
	return nil
}

// ImportStatic makes an image that holds one static program as /<its name> and
// nothing else. The changes are Dockerfile instructions; without an ENTRYPOINT
// among them the program is it.
func (e *Engine) ImportStatic(ctx context.Context, tag, binary string, changes ...string) error {
	name := filepath.Base(binary)
	dockerfile := []string{"FROM scratch", "COPY " + name + " /" + name}
	if !strings.Contains(strings.Join(changes, "\n"), "ENTRYPOINT") {
		dockerfile = append(dockerfile, `ENTRYPOINT ["/`+name+`"]`)
	}
	dockerfile = append(dockerfile, changes...)
	var a archive
	a.addFile("Dockerfile", 0o644, strings.Join(dockerfile, "\n")+"\n")
	a.addBinary(binary, name)
	content, err := a.bytes()
	if err != nil {
		return fmt.Errorf("build %s: %w", tag, err)
	}
	// version=1 is the classic builder: it is in every engine, and the only one
	// that needs nothing but the engine.
	query := url.Values{"t": {tag}, "version": {"1"}, "rm": {"1"}, "forcerm": {"1"}}
	if err := e.upload(ctx, "/build", query, bytes.NewReader(content)); err != nil {
		return fmt.Errorf("build %s: %w", tag, err)
	}
	return nil
}

// archive is a tar that remembers its first error.
type archive struct {
	buf bytes.Buffer
	tar *tar.Writer
	err error
}

func (a *archive) add(header tar.Header, content []byte) {
	if a.tar == nil {
		a.tar = tar.NewWriter(&a.buf)
	}
	if a.err != nil {
		return
	}
	header.Size = int64(len(content))
	if a.err = a.tar.WriteHeader(&header); a.err == nil {
		_, a.err = a.tar.Write(content)
	}
}

func (a *archive) addFile(name string, mode int64, content string) {
	a.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, []byte(content))
}

func (a *archive) addBinary(from, name string) {
	content, err := os.ReadFile(from)
	if err != nil && a.err == nil {
		a.err = err
		return
	}
	a.addFile(name, 0o755, string(content))
}

func (a *archive) bytes() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	if err := a.tar.Close(); err != nil {
		return nil, err
	}
	return a.buf.Bytes(), nil
}
