package engine_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
)

func TestUnavailable_IsAboutTheConnectionOnly(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "unix", Err: syscall.ECONNRESET}
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errdefs.ErrUnavailable, true},
		{errdefs.ErrNotFound, false},
		{io.ErrUnexpectedEOF, true},
		{context.DeadlineExceeded, false},
		{reset, true},
		{&url.Error{Op: "Post", URL: "/start", Err: io.EOF}, true},
		// Errors of the agent's own files.
		{&fs.PathError{Op: "open", Path: "record", Err: syscall.ENOENT}, false},
		{&fs.PathError{Op: "write", Path: "pins.json", Err: syscall.ENOSPC}, false},
		{syscall.EAGAIN, false},
	} {
		assert.Equal(t, engine.Unavailable(tc.err), tc.want, "%v", tc.err)
		if tc.err != nil {
			assert.Equal(t, engine.Unavailable(fmt.Errorf("start web: %w", tc.err)), tc.want, "%v", tc.err)
		}
	}
}
