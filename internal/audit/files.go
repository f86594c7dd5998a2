package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

var fileName = regexp.MustCompile(`^[0-9]{12}\.jsonl$`)

// pathOf is the file that begins with a record.
func pathOf(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d.jsonl", seq))
}

// files lists the files of a log, oldest first.
func files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if fileName.MatchString(e.Name()) && e.Type().IsRegular() {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// line is one line of a file, as it lies there.
type line struct {
	text  []byte // without the newline
	whole bool   // it ends with a newline
	at    int64  // where it begins
	n     int    // from 1
}

// scan calls each for every line of a file. A line that is too long ends the scan
// with an error: nothing after it can be found.
func scan(path string, each func(line) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	defer func() { _ = f.Close() }()
	r := bufio.NewReaderSize(f, maxLine+1)
	at := int64(0)
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			// A long tail of nothing is what a power cut leaves of a file that had grown.
			if onlyZeros(text, r) {
				return each(line{text: text, at: at, n: n})
			}
			return fmt.Errorf("%w: %s line %d is longer than %d bytes", ErrLine, path, n, maxLine)
		case errors.Is(err, io.EOF) && len(text) == 0:
			return nil
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("read audit log: %w", err)
		}
		l := line{text: bytes.TrimSuffix(text, []byte("\n")), whole: err == nil, at: at, n: n}
		at += int64(len(text))
		if err := each(l); err != nil {
			return err
		}
	}
}

func onlyZeros(text []byte, r io.Reader) bool {
	if len(bytes.Trim(text, "\x00")) > 0 {
		return false
	}
	rest, err := io.ReadAll(r)
	return err == nil && len(bytes.Trim(rest, "\x00")) == 0
}

// All calls each for every record that can be read, oldest first. It does not verify
// the chain.
func All(dir string, each func(Record)) error {
	paths, err := files(dir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		err := scan(path, func(l line) error {
			if r, _, err := parse(l.text); err == nil {
				each(r)
			}
			return nil
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue // the oldest one was removed meanwhile
		}
		if err != nil && !errors.Is(err, ErrLine) {
			return err
		}
	}
	return nil
}
