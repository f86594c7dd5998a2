package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Unavailable reports whether err says that the engine could not be asked, as
// opposed to: it was asked and said no. Such a call may have had its effect.
func Unavailable(err error) bool {
	var conn *net.OpError
	var request *url.Error
	switch {
	case err == nil:
		return false
	case client.IsErrConnectionFailed(err), errdefs.IsUnavailable(err):
		return true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	case errors.Is(err, context.DeadlineExceeded):
		return false // our own limit: the step hung
	}
	// Not any net.Error: a syscall.Errno is one too, and so would be a full disk.
	return errors.As(err, &conn) || errors.As(err, &request)
}
