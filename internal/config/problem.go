package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/docker-secret-operator/dso/internal/typo"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"` // from 1; 0: the file as a whole
	Column int    `json:"column,omitempty"`
	Path   string `json:"path,omitempty"` // such as providers.vault.config
	Text   string `json:"message"`
	Hint   string `json:"hint,omitempty"`
}

// String returns file:line:column: text, hint.
func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	s += ": " + p.Text
	if p.Hint != "" {
		s += ", " + p.Hint
	}
	return s
}

// Error is every problem of a file, in the order of its lines.
type Error struct {
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// nearest returns the known word that somebody who typed this one may have meant.
func nearest(typed string, known []string) (string, bool) {
	if len(typed) < 3 {
		return "", false // anything is near
	}
	best, least := "", (len(typed)+2)/3+1
	for _, k := range known {
		if plain(k) == plain(typed) {
			return k, true
		}
		if d := typo.Distance(strings.ToLower(typed), k); d < least {
			best, least = k, d
		}
	}
	return best, best != ""
}

// plain takes away what spellings of one key differ in.
func plain(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}
