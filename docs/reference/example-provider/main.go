// Command example-provider is a provider program for DSO, to begin with: it reads
// the files of one directory. docs/reference/provider-protocol.md explains it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// question is what DSO asks, one line each.
type question struct {
	ID       int64  `json:"id"`
	Method   string `json:"method"`
	Protocol int    `json:"protocol"`
	Path     string `json:"path"`
	Version  string `json:"version"`
}

// answer has the same id. []byte becomes base64.
type answer struct {
	ID       int64    `json:"id"`
	Protocol int      `json:"protocol,omitempty"`
	Version  string   `json:"version,omitempty"`
	Value    []byte   `json:"value,omitzero"` // an empty one is ""
	Error    *problem `json:"error,omitempty"`
}

type problem struct {
	Code string `json:"code"`
}

func main() {
	store, err := os.OpenRoot(os.Getenv("EXAMPLE_DIR"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for in.Scan() { // until DSO closes our input
		var q question
		if json.Unmarshal(in.Bytes(), &q) != nil {
			os.Exit(1)
		}
		a := reply(store, q)
		a.ID = q.ID
		if out.Encode(a) != nil {
			os.Exit(1)
		}
	}
}

// reply opens the file once: the version and the value are of that one file,
// whatever is put in its place meanwhile.
func reply(store *os.Root, q question) answer {
	if q.Method == "hello" {
		return answer{Protocol: 1}
	}
	f, err := store.Open(q.Path)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return failed(err)
	}
	a := answer{Version: version(info)}
	switch {
	case q.Method == "version":
		return a
	case q.Version != "" && q.Version != a.Version:
		return answer{Error: &problem{"no_version"}} // a file has only its current one
	}
	if a.Value, err = io.ReadAll(f); err != nil {
		return failed(err)
	}
	return a
}

// version tells a file from the one that it was put in place of, also within one
// tick of the clock: whoever replaces a secret by renaming has both at once.
func version(info fs.FileInfo) string {
	v := fmt.Sprintf("%d-%d", info.ModTime().UnixNano(), info.Size())
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v += fmt.Sprintf("-%d", st.Ino)
	}
	return v
}

func failed(err error) answer {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return answer{Error: &problem{"not_found"}}
	case errors.Is(err, fs.ErrPermission):
		return answer{Error: &problem{"denied"}}
	}
	return answer{Error: &problem{"unavailable"}}
}
