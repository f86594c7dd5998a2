package stdlog_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"log/slog"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/stdlog"
)

func TestSilence_DropsWhatTheDefaultLoggersAreGiven(t *testing.T) {
	before := log.Writer()
	t.Cleanup(func() { log.SetOutput(before) })
	var said bytes.Buffer
	log.SetOutput(&said)
	stdlog.Silence()
	log.Print("canary")
	slog.Error("canary")
	assert.Equal(t, said.String(), "")
}

func TestSilence_IsTheFirstThingThatEveryProgramDoes(t *testing.T) {
	mains, err := filepath.Glob("../../cmd/*/main.go")
	assert.NilError(t, err)
	assert.Assert(t, len(mains) >= 6, "%v", mains)
	for _, file := range mains {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		assert.NilError(t, err)
		body := f.Scope.Lookup("main").Decl.(*ast.FuncDecl).Body //nolint:staticcheck // one file, no types
		call, ok := body.List[0].(*ast.ExprStmt)
		assert.Assert(t, ok, file)
		var text bytes.Buffer
		ast.Inspect(call, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				text.WriteString(id.Name + " ")
			}
			return true
		})
		assert.Equal(t, text.String(), "stdlog Silence ", file)
	}
}
