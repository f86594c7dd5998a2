package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/docker-secret-operator/dso/internal/secret"
)

// The places where a configuration is looked for, in this order.
const (
	SystemFile = "/etc/dso/dso.yaml"
	LocalFile  = "dso.yaml"
)

// ErrNone says that no file was named and none lies in the usual places. What needs
// no configuration runs with [Default].
var ErrNone = errors.New("no configuration: neither " + SystemFile + " nor ./" + LocalFile + " exists")

// maxFile bounds a configuration, in bytes.
const maxFile = 1 << 20

// Find returns the file to read: the explicit one always wins, then [SystemFile],
// then ./[LocalFile]. It returns [ErrNone] when there is none of them.
func Find(explicit string) (string, error) { return find(explicit, SystemFile) }

func find(explicit, system string) (string, error) {
	if explicit != "" {
		return filepath.Abs(explicit)
	}
	for _, path := range []string{system, LocalFile} {
		_, err := os.Stat(path)
		if err == nil {
			return filepath.Abs(path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find configuration: %w", err) // one that cannot be seen is not one that is not there
		}
	}
	return "", ErrNone
}

// Default returns what holds without a file: there is the local vault only.
func Default() *Config {
	d := newDecoder("", os.LookupEnv)
	c := &Config{}
	d.structure(nil, position{}, reflect.ValueOf(c).Elem(), "", nil)
	c.Mode = "local"
	return c
}

// Load reads the file. When anything is wrong with its content the error is an
// [*Error] with every problem.
func Load(path string) (*Config, error) {
	data, st, err := read(path)
	if err != nil {
		return nil, err
	}
	c, err := decode(path, data, st, os.LookupEnv)
	if err == nil {
		c.Sum = sum(data, st)
	}
	return c, err
}

// Sum tells one state of a file from another, its mode included: that may be what
// is wrong with it. All that cannot be read are one state.
func Sum(path string) [sha256.Size]byte {
	data, st, err := read(path)
	if err != nil {
		return [sha256.Size]byte{}
	}
	return sum(data, st)
}

func sum(data []byte, st fs.FileInfo) [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(data, "%s", st.Mode()))
}

// read returns the content with the owner and mode it had.
func read(path string) ([]byte, fs.FileInfo, error) {
	before, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	if !before.Mode().IsRegular() { // opening a pipe would wait
		return nil, nil, fmt.Errorf("read configuration: %s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("read configuration: %s is longer than %d bytes", path, maxFile)
	}
	return data, st, nil
}

func newDecoder(file string, env func(string) (string, bool)) *decoder {
	return &decoder{file: file, env: env, at: map[string]position{}, raw: map[string]string{}, literal: map[string]position{}}
}

// decode does everything after the reading; st may be nil.
func decode(path string, data []byte, st fs.FileInfo, env func(string) (string, bool)) (*Config, error) {
	d := newDecoder(path, env)
	c := &Config{File: path}
	if root := d.document(data); root != nil {
		d.structure(root, position{1, 1}, reflect.ValueOf(c).Elem(), "", nil)
		d.validate(c)
		d.mode(st)
	}
	if len(d.problems) > 0 {
		sortProblems(d.problems)
		return nil, &Error{Problems: d.problems}
	}
	sortProblems(d.warnings)
	c.raw, c.source, c.Warnings = d.raw, secret.NewValue(data), d.warnings
	return c, nil
}

// Parse is [Load] of what once stood in the file, which may be gone or another now.
func Parse(path string, source secret.Value) (*Config, error) {
	c, err := decode(path, source.Reveal(), nil, os.LookupEnv)
	if err == nil {
		c.Sum = Sum(path)
	}
	return c, err
}

// document parses the text. A file without content is not taken for one without
// configuration: it is what a half written file looks like.
func (d *decoder) document(data []byte) *yaml.Node {
	l, err := yaml.NewLoader(strings.NewReader(string(data)))
	if err != nil {
		d.problem(position{}, "", "", "not YAML: %v", err)
		return nil
	}
	var doc, more yaml.Node
	err = l.Load(&doc)
	switch {
	case errors.Is(err, io.EOF), err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])):
		d.problem(position{}, "", "the least is `version: 1`", "the file has no content")
		return nil
	case err != nil:
		d.syntax(data, err)
		return nil
	}
	switch err := l.Load(&more); {
	case err == nil:
		d.problem(where(&more), "", "remove `---` and what follows", "the file has a second document")
	case !errors.Is(err, io.EOF):
		d.syntax(data, err)
		return nil
	}
	return follow(doc.Content[0])
}

// syntax reports what the parser says. It quotes nothing but the names of anchors,
// and even those may be a password that was written without quotes.
func (d *decoder) syntax(data []byte, err error) {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.problem(position{}, "", "", "not YAML")
		return
	}
	text, hint := le.Message, ""
	if strings.Contains(text, "anchor") {
		text, hint = "unknown anchor", "put a value that begins with `*` in quotes"
	}
	pos := position{le.Mark.Line, max(le.Mark.Column, 1)}
	if pos.line < 1 { // of a byte that is no character the parser only says which it is
		read := data[:min(max(le.Mark.Index, 0), len(data))]
		pos = position{1 + bytes.Count(read, []byte("\n")), len(read) - bytes.LastIndexByte(read, '\n')}
		hint = "save the file as UTF-8, without control characters"
	}
	if begins := lineFrom(data, pos); hint == "" && strings.HasPrefix(begins, "\t") {
		hint = "indent with spaces, a tab cannot"
	}
	d.problem(pos, "", hint, "not YAML: %s", text)
}

// lineFrom returns the rest of a line.
func lineFrom(data []byte, pos position) string {
	lines := strings.Split(string(data), "\n")
	if pos.line > len(lines) || pos.column > len(lines[pos.line-1]) {
		return ""
	}
	return lines[pos.line-1][pos.column-1:]
}

// mode refuses a file that the wrong users can read or write.
func (d *decoder) mode(st fs.FileInfo) {
	if st == nil {
		return
	}
	perm := st.Mode().Perm()
	if perm&0o002 != 0 {
		d.problem(position{}, "", "chmod o-w "+d.file, "every user of this host can write the file (mode %04o)", perm)
	}
	if perm&0o004 != 0 {
		for path, pos := range d.literal {
			d.problem(pos, path, "chmod o-rwx "+d.file, "%s is a credential and every user of this host can read the file (mode %04o)", name(path), perm)
		}
	}
}
