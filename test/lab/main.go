package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Main runs the tests of a package on one lab, which it opens for them and closes
// behind them, and returns the process's exit code. into gets the lab; prepare, if
// not nil, is called with it before the first test.
func Main(m interface{ Run() int }, root string, into **Lab, prepare func(context.Context) error) (code int) {
	ctx := context.Background()
	root, err := filepath.Abs(root)
	var l *Lab
	if err == nil {
		l, err = Open(ctx, root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "open lab:", err)
		return 1
	}
	defer func() { _ = l.Close() }()
	*into = l
	if prepare != nil {
		if err := prepare(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "prepare lab:", err)
			return 1
		}
	}
	return m.Run()
}
