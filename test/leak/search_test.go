package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// needle is one form in which a value may show itself.
type needle struct {
	form string
	text []byte
}

// needlesOf returns the forms of a value that are looked for.
func needlesOf(value string) []needle {
	asJSON, _ := json.Marshal(value)
	inJSON := strings.Trim(string(asJSON), `"`)
	needles := []needle{
		{"raw", []byte(value)},
		{"JSON", []byte(inJSON)},
		{"URL query", []byte(url.QueryEscape(value))},
		{"URL path", []byte(url.PathEscape(value))},
		{"hex", []byte(hex.EncodeToString([]byte(value)))},
		{"HEX", []byte(strings.ToUpper(hex.EncodeToString([]byte(value))))},
		{"shell", []byte(strconv.Quote(value))},
	}
	// Within something longer that is encoded, base64 of a value depends on where
	// in a group of three it begins. The characters at both ends also depend on
	// what is beside it.
	for shift := range 3 {
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			encoded := encoding.EncodeToString([]byte(strings.Repeat("x", shift) + value))
			needles = append(needles, needle{fmt.Sprintf("%s+%d", name, shift), []byte(encoded[4 : len(encoded)-4])})
		}
	}
	return needles
}

// find names the first form that text holds; empty when it holds none.
func find(text []byte, needles []needle) string {
	for _, n := range needles {
		if bytes.Contains(text, n.text) {
			return n.form
		}
	}
	return ""
}

// findBelow looks in the content of every file below dir, in the names and in
// what symlinks point to, except below the directories of skip. Files that were
// not changed since are left out.
func findBelow(dir string, since time.Time, needles []needle, skip ...string) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is gone, or a file system that root cannot read
		}
		if entry.IsDir() && slices.Contains(skip, path) {
			return fs.SkipDir
		}
		if form := find([]byte(entry.Name()), needles); form != "" {
			found = append(found, fmt.Sprintf("the name of %s (%s)", path, form))
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			if form := find([]byte(target), needles); form != "" {
				found = append(found, fmt.Sprintf("the target of %s (%s)", path, form))
			}
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.ModTime().Before(since) {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if form := find(content, needles); form != "" {
			found = append(found, fmt.Sprintf("%s (%s)", path, form))
		}
		return nil
	})
	return found
}

// findInProcesses looks in the arguments and the environment of every process of
// the machine that is not a container's own.
func findInProcesses(needles []needle) []string {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return []string{err.Error()}
	}
	entries, _ := os.ReadDir("/proc")
	var found []string
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		dir := "/proc/" + entry.Name()
		for _, file := range []string{"cmdline", "environ"} {
			content, err := os.ReadFile(dir + "/" + file)
			if err != nil {
				continue
			}
			form := find(content, needles)
			if form == "" {
				continue
			}
			// A container's process has a namespace of its own; it may, and does,
			// have the value in its environment.
			if ns, err := os.Readlink(dir + "/ns/pid"); err == nil && ns == own {
				comm, _ := os.ReadFile(dir + "/comm")
				found = append(found, fmt.Sprintf("%s of process %s (%s) (%s)", file, entry.Name(), strings.TrimSpace(string(comm)), form))
			}
		}
	}
	return found
}
