package search

import (
	"bytes"
	"crypto/rand"
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

// Canary returns a value that is nowhere else, and looks different in every encoding.
func Canary() string { return rand.Text() + ` "q"&<\/+é$x ` + rand.Text() }

// Needle is one form in which a value may show itself.
type Needle struct {
	Form string
	Text []byte
}

// Needles returns the forms of a value that are looked for.
func Needles(value string) []Needle {
	asJSON, _ := json.Marshal(value)
	inJSON := strings.Trim(string(asJSON), `"`)
	needles := []Needle{
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
			needles = append(needles, Needle{fmt.Sprintf("%s+%d", name, shift), []byte(encoded[4 : len(encoded)-4])})
		}
	}
	return needles
}

// Find names the first form that text holds; empty when it holds none.
func Find(text []byte, needles []Needle) string {
	for _, n := range needles {
		if bytes.Contains(text, n.Text) {
			return n.Form
		}
	}
	return ""
}

// Below looks in the content of every file below dir, in the names and in
// what symlinks point to, except below the directories of skip. Files that were
// not changed since are left out.
func Below(dir string, since time.Time, needles []Needle, skip ...string) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is gone, or a file system that root cannot read
		}
		if entry.IsDir() && slices.Contains(skip, path) {
			return fs.SkipDir
		}
		if form := Find([]byte(entry.Name()), needles); form != "" {
			found = append(found, fmt.Sprintf("the name of %s (%s)", path, form))
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			if form := Find([]byte(target), needles); form != "" {
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
		if form := Find(content, needles); form != "" {
			found = append(found, fmt.Sprintf("%s (%s)", path, form))
		}
		return nil
	})
	return found
}
