package audit

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Report is what a look at the whole log found.
type Report struct {
	Records int    `json:"records"`
	Files   int    `json:"files"`
	First   uint64 `json:"first"` // number of the first record; above 1 the files before were removed
	Last    uint64 `json:"last"`
	Head    string `json:"head"` // SEQ:HASH of the last record, to note elsewhere
	// Torn says that the last line is not whole: it is being written, or a crash cut it
	// off. That is no tampering.
	Torn bool `json:"torn,omitempty"`
	// Cuts counts lines that a crash had cut off and the agent removed.
	Cuts     int       `json:"cuts,omitempty"`
	Problems []Problem `json:"problems"`
}

// Problem is a place at which the chain does not hold.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Seq  uint64 `json:"seq,omitempty"`
	Text string `json:"text"`
}

func (p Problem) String() string {
	where := p.File
	if p.Line > 0 {
		where = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return where + ": " + p.Text
}

// maxProblems bounds a report: after so many, one more says nothing.
const maxProblems = 100

// Verify reads the whole log. expect is a head that was noted before, or empty: it must
// still be part of the chain.
func Verify(dir, expect string) (Report, error) {
	rep := Report{Problems: []Problem{}}
	wantSeq, wantHash, err := parseHead(expect)
	if err != nil {
		return rep, err
	}
	paths, err := files(dir)
	if err != nil {
		return rep, err
	}
	v := verifier{report: &rep, wantSeq: wantSeq, wantHash: wantHash}
	for i, path := range paths {
		rep.Files++
		v.file, v.last = filepath.Base(path), i == len(paths)-1
		err := scan(path, v.line)
		if errors.Is(err, ErrLine) {
			v.problem(0, 0, "%v", err)
			err = nil
		}
		if err != nil {
			return rep, err
		}
	}
	if expect != "" && !v.found {
		v.problem(0, wantSeq, "record %d with the hash that was noted is not part of the log", wantSeq)
	}
	return rep, nil
}

func parseHead(head string) (seq uint64, hash string, err error) {
	if head == "" {
		return 0, "", nil
	}
	number, hash, ok := strings.Cut(head, ":")
	if seq, err = strconv.ParseUint(number, 10, 64); !ok || err != nil || len(hash) != 64 {
		return 0, "", fmt.Errorf("%q is not a head of the audit log: it is SEQ:HASH, as audit verify prints it", head)
	}
	return seq, hash, nil
}

type verifier struct {
	report   *Report
	file     string
	last     bool // it is the newest file
	seq      uint64
	hash     string
	wantSeq  uint64
	wantHash string
	found    bool
}

func (v *verifier) problem(line int, seq uint64, format string, args ...any) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, Problem{File: v.file, Line: line, Seq: seq, Text: fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) line(l line) error {
	if !l.whole {
		if v.last {
			v.report.Torn = true
		} else {
			v.problem(l.n, 0, "the last line is cut off, and the log goes on in another file")
		}
		return nil
	}
	r, hash, err := parse(l.text)
	if err != nil {
		v.problem(l.n, 0, "%v", err)
		return nil
	}
	first := v.report.Records == 0
	v.report.Records++
	switch {
	case first:
		v.report.First = r.Seq
	case r.Seq != v.seq+1:
		v.problem(l.n, r.Seq, "record %d follows record %d", r.Seq, v.seq)
	case r.Prev != v.hash:
		v.problem(l.n, r.Seq, "it does not name the hash of the record before: one of them was replaced")
	}
	switch r.What {
	case Broken:
		v.problem(l.n, r.Seq, "the agent found the log broken: %s", r.Why)
	case Cut:
		v.report.Cuts++
	}
	v.seq, v.hash = r.Seq, hash
	v.found = v.found || r.Seq == v.wantSeq && hash == v.wantHash
	v.report.Last, v.report.Head = r.Seq, fmt.Sprintf("%d:%s", r.Seq, hash)
	return nil
}
