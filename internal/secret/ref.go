package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The two schemes of a reference.
const (
	schemeValue = "dso://"
	schemeFile  = "dsofile://"
)

// DefaultProvider is the provider of a reference that names none.
const DefaultProvider = "local"

// DefaultNamespace is the namespace of a reference that names none, in a
// container that belongs to no Compose project.
const DefaultNamespace = "default"

// MaxRefLen bounds a reference, in bytes. It is far above any real one and
// keeps hostile specifications from costing anything.
const MaxRefLen = 1024

// ErrBadRef is wrapped by every error of [ParseRef] and [ParseName].
var ErrBadRef = errors.New("not a valid secret reference")

// Kind says how a reference wants its value delivered.
type Kind int

// The kinds of reference.
const (
	KindValue Kind = iota // the variable becomes the value
	KindFile              // the variable becomes the path of a file with the value
)

// Ref is one parsed reference: dso://[provider/]path[#field], or
// dsofile://[provider/]path[?uid=N&gid=N&mode=0NNN&path=/…][#field].
type Ref struct {
	Kind  Kind
	Path  string // as written, provider included when there is one
	Field string // empty: the whole value
	File  FileOptions
}

// FileOptions say how a file is placed, in the words of Compose's secrets. What
// is nil follows the container: the user it runs as, and DefaultFileMode.
type FileOptions struct {
	UID, GID *uint32
	Mode     *fs.FileMode
	// Path is where the container sees the file; empty: below [FilesDir], by the name
	// of the secret.
	Path string
}

// FilesDir is where a container sees its files, all of them in one mount, in which they
// change together.
const FilesDir = "/run/secrets/dso"

// Below reports whether the file is seen in [FilesDir], and by which name when Path
// gives it one.
func (o FileOptions) Below() (name string, ok bool) {
	if o.Path == "" {
		return "", true
	}
	return strings.CutPrefix(o.Path, FilesDir+"/")
}

// Fixed reports whether a running container keeps what it was given for the reference:
// a variable, or a file with a mount of its own.
func (r Ref) Fixed() bool {
	_, below := r.File.Below()
	return r.Kind != KindFile || !below
}

// DefaultFileMode is the mode of a delivered file whose reference names none.
const DefaultFileMode fs.FileMode = 0o400

// IsRef reports whether s claims to be a reference. It may still be malformed.
func IsRef(s string) bool {
	return strings.HasPrefix(s, schemeValue) || strings.HasPrefix(s, schemeFile)
}

// ParseRef parses a reference. Path segments consist of letters, digits and
// "._-", do not start with a dot, and are separated by single slashes; a field
// may contain anything printable but "#".
func ParseRef(s string) (Ref, error) {
	var r Ref
	rest, ok := strings.CutPrefix(s, schemeValue)
	if !ok {
		r.Kind = KindFile
		if rest, ok = strings.CutPrefix(s, schemeFile); !ok {
			return Ref{}, fmt.Errorf("%w: %q starts with neither dso:// nor dsofile://", ErrBadRef, clip(s))
		}
	}
	if len(s) > MaxRefLen {
		return Ref{}, fmt.Errorf("%w: %q is longer than %d bytes", ErrBadRef, clip(s), MaxRefLen)
	}
	rest, field, hasField := strings.Cut(rest, "#")
	path, query, hasQuery := strings.Cut(rest, "?")
	if err := checkPath(path); err != nil {
		return Ref{}, fmt.Errorf("%w: %q: %w", ErrBadRef, clip(s), err)
	}
	if hasField {
		if err := checkField(field); err != nil {
			return Ref{}, fmt.Errorf("%w: %q: %w", ErrBadRef, clip(s), err)
		}
	}
	r.Path, r.Field = path, field
	if hasQuery {
		if err := r.parseOptions(query); err != nil {
			return Ref{}, fmt.Errorf("%w: %q: %w", ErrBadRef, clip(s), err)
		}
	}
	return r, nil
}

func (r *Ref) parseOptions(query string) error {
	if r.Kind != KindFile {
		return errors.New("only a dsofile:// reference has options after ?")
	}
	for option := range strings.SplitSeq(query, "&") {
		key, text, _ := strings.Cut(option, "=")
		switch key {
		case "uid", "gid":
			n, err := strconv.ParseUint(text, 10, 32)
			if err != nil {
				return fmt.Errorf("option %s=%q is not a number", key, text)
			}
			id := uint32(n)
			if key == "uid" {
				r.File.UID = &id
			} else {
				r.File.GID = &id
			}
		case "mode":
			n, err := strconv.ParseUint(text, 8, 32)
			if err != nil || n > 0o777 {
				return fmt.Errorf("option mode=%q is not an octal mode such as 0440", text)
			}
			mode := fs.FileMode(n)
			r.File.Mode = &mode
		case "path":
			if err := CheckFilePath(text); err != nil {
				return fmt.Errorf("option path %w", err)
			}
			r.File.Path = text
		default:
			return fmt.Errorf("unknown option %q; there are uid, gid, mode and path", key)
		}
	}
	return nil
}

// String returns the reference as it is written in a specification.
func (r Ref) String() string {
	s := schemeValue
	if r.Kind == KindFile {
		s = schemeFile
	}
	s += r.Path + r.File.query()
	if r.Field != "" {
		s += "#" + r.Field
	}
	return s
}

func (o FileOptions) query() string {
	var parts []string
	if o.UID != nil {
		parts = append(parts, fmt.Sprintf("uid=%d", *o.UID))
	}
	if o.GID != nil {
		parts = append(parts, fmt.Sprintf("gid=%d", *o.GID))
	}
	if o.Mode != nil {
		parts = append(parts, fmt.Sprintf("mode=%04o", *o.Mode))
	}
	if o.Path != "" {
		parts = append(parts, "path="+o.Path)
	}
	if len(parts) == 0 {
		return ""
	}
	return "?" + strings.Join(parts, "&")
}

// ID names one secret of one provider, with nothing left to the context.
type ID struct {
	Provider string
	Path     string
}

// String returns provider:path, the form used in the journal's keys.
func (id ID) String() string { return id.Provider + ":" + id.Path }

// Compare orders IDs by provider, then path.
func (id ID) Compare(other ID) int {
	if c := strings.Compare(id.Provider, other.Provider); c != 0 {
		return c
	}
	return strings.Compare(id.Path, other.Path)
}

// In says which secret the reference means in a container of the given Compose
// project (empty: none). isProvider reports whether a name is a configured
// provider; the first path segment counts as one only when something follows.
//
// A path of the local provider that has one segment lies in the project's
// namespace, or in [DefaultNamespace] outside any project.
func (r Ref) In(project string, isProvider func(string) bool) ID {
	return resolveName(r.Path, project, isProvider)
}

// ParseName parses a secret's name as typed on a command line: a reference's
// path without scheme and field, or what [ID.String] prints. It follows the same
// rules as [Ref.In].
func ParseName(name, project string, isProvider func(string) bool) (ID, error) {
	path, err := NamePath(name)
	if err != nil {
		return ID{}, err
	}
	if provider, _, ok := strings.Cut(name, ":"); ok && !IsRef(name) && !isProvider(provider) {
		return ID{}, fmt.Errorf("%w: %q: there is no provider %s", ErrBadRef, clip(name), provider)
	}
	return resolveName(path, project, isProvider), nil
}

// NamePath returns the path that a secret's name, as typed on a command line, has in a
// reference: the provider included when it was typed, nothing added.
func NamePath(name string) (string, error) {
	if IsRef(name) {
		r, err := ParseRef(name)
		if err == nil && r.Field != "" {
			err = fmt.Errorf("%w: %q: a secret's name has no #field", ErrBadRef, clip(name))
		}
		return r.Path, err
	}
	if len(name) > MaxRefLen {
		return "", fmt.Errorf("%w: %q is longer than %d bytes", ErrBadRef, clip(name), MaxRefLen)
	}
	path := strings.Replace(name, ":", "/", 1) // of provider:path
	if err := checkPath(path); err != nil {
		return "", fmt.Errorf("%w: %q: %w", ErrBadRef, clip(name), err)
	}
	return path, nil
}

func resolveName(path, project string, isProvider func(string) bool) ID {
	id := ID{Provider: DefaultProvider, Path: path}
	if first, rest, ok := strings.Cut(path, "/"); ok && isProvider(first) {
		id.Provider, id.Path = first, rest
	}
	if id.Provider == DefaultProvider && !strings.Contains(id.Path, "/") {
		if project == "" {
			project = DefaultNamespace
		}
		id.Path = project + "/" + id.Path
	}
	return id
}

// CheckPath says what is wrong with a path that a reference could not have after the
// name of its provider.
func (id ID) CheckPath() error {
	if len(id.Path) > MaxRefLen {
		return fmt.Errorf("it is longer than %d bytes", MaxRefLen)
	}
	return checkPath(id.Path)
}

func checkPath(path string) error {
	if path == "" {
		return errors.New("the path is empty")
	}
	for seg := range strings.SplitSeq(path, "/") {
		if seg == "" {
			return errors.New("the path has an empty segment")
		}
		if seg[0] == '.' {
			return fmt.Errorf("segment %q starts with a dot", seg)
		}
		if i := strings.IndexFunc(seg, notPathRune); i >= 0 {
			return fmt.Errorf("segment %q has a character that is not a letter, a digit or one of . _ -", seg)
		}
	}
	return nil
}

func notPathRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	case r == '.', r == '_', r == '-':
		return false
	}
	return true
}

// Why a path cannot be a file's. They do not quote it.
var (
	errFilePath = errors.New("is not the whole path of a file")
	errFileRune = errors.New("has a character that is not a letter, a digit or one of / . _ - + @ : ~")
	errFileHost = errors.New("is below /proc, /sys or /dev")
	errFileDots = errors.New("has a part that starts with a dot, which below " + FilesDir + " are the agent's own")
)

// CheckFilePath says why a container cannot see a file at a path.
func CheckFilePath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/") || path.Clean(p) != p || p == "/" || p == FilesDir || strings.HasPrefix(FilesDir, p+"/"):
		return errFilePath
	case strings.IndexFunc(p, func(r rune) bool { return notPathRune(r) && !strings.ContainsRune("/+@:~", r) }) >= 0:
		return errFileRune
	case slices.Contains([]string{"proc", "sys", "dev"}, strings.SplitN(p, "/", 3)[1]):
		return errFileHost
	case strings.HasPrefix(p, FilesDir+"/") && strings.Contains(p, "/."):
		return errFileDots
	}
	return nil
}

func checkField(field string) error {
	if field == "" {
		return errors.New("the field after # is empty")
	}
	for _, r := range field {
		if r < ' ' || r == '#' || r == 0x7f || r == '\uFFFD' {
			return errors.New("the field has a character that is not allowed")
		}
	}
	return nil
}

// clip keeps error messages short. References are not secret, but somebody may
// have pasted a value behind the scheme, so what is not a path is not echoed.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return s
}
