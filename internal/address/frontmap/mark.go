package frontmap

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// Table is the nft table of a front, in its own network namespace.
	Table = "dso"
	// MarkChain is the chain, attached to no hook, whose rules carry the marks
	// as comments. It changes in the same transaction as the rules that act.
	MarkChain = "applied"

	maxMark = 120 // bytes: nft prints comments of up to 128
)

// ErrNoMarks says that no front has applied anything yet.
var ErrNoMarks = errors.New("front has applied nothing yet")

// Target is a container that was found at an address.
type Target struct {
	Name string
	Addr netip.Addr
}

// Marks are the comments that say what is in force. Generation 0 stands for the
// fallback names: no map, or none of its containers, was found.
func Marks(generation uint64, targets []Target) []string {
	marks := []string{fmt.Sprintf("dso generation=%d addresses=%d", generation, len(targets))}
	for _, t := range targets {
		m := fmt.Sprintf("dso address=%s target=%s", t.Addr, t.Name)
		marks = append(marks, m[:min(len(m), maxMark)])
	}
	return marks
}

// ParseMarks is the inverse of Marks, except for long names, which are cut.
// It returns ErrNoMarks when there are none.
func ParseMarks(marks []string) (generation uint64, targets []Target, err error) {
	if len(marks) == 0 {
		return 0, nil, ErrNoMarks
	}
	head := fields(marks[0])
	generation, err = strconv.ParseUint(head["generation"], 10, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("parse mark %q: %w", marks[0], err)
	}
	if head["addresses"] != strconv.Itoa(len(marks)-1) {
		return 0, nil, fmt.Errorf("parse mark %q: %d addresses follow", marks[0], len(marks)-1)
	}
	for _, m := range marks[1:] {
		f := fields(m)
		addr, err := netip.ParseAddr(f["address"])
		if err != nil {
			return 0, nil, fmt.Errorf("parse mark %q: %w", m, err)
		}
		targets = append(targets, Target{Name: f["target"], Addr: addr})
	}
	return generation, targets, nil
}

func fields(mark string) map[string]string {
	m := map[string]string{}
	for _, f := range strings.Fields(mark) {
		if key, value, ok := strings.Cut(f, "="); ok {
			m[key] = value
		}
	}
	return m
}
