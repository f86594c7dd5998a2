// Command example-provider is a provider program for DSO, to begin with: it reads
// the files of one directory. docs/reference/provider-protocol.md explains it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	Value    []byte   `json:"value,omitempty"`
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

func reply(store *os.Root, q question) answer {
	if q.Method == "hello" {
		return answer{Protocol: 1}
	}
	info, err := store.Stat(q.Path)
	if err != nil {
		return failed(err)
	}
	a := answer{Version: fmt.Sprint(info.ModTime().UnixNano())}
	switch {
	case q.Method == "version":
		return a
	case q.Version != "" && q.Version != a.Version:
		return answer{Error: &problem{"no_version"}} // a file has only its current one
	}
	if a.Value, err = store.ReadFile(q.Path); err != nil {
		return failed(err)
	}
	return a
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
