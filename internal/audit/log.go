package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/docker-secret-operator/dso/internal/durable"
)

// Options bound a log. Zero values mean the defaults.
type Options struct {
	MaxSize int64 // bytes of one file, 16 MiB
	Keep    int   // files, 8
	// Meddled is told that somebody changed the file while it was written to; may be nil.
	Meddled func(error)
}

const (
	defaultSize = 16 << 20
	defaultKeep = 8
)

// Log is appended to by one process. It is safe for concurrent use; a nil one records
// nothing.
type Log struct {
	dir  string
	opts Options
	wake chan struct{}

	mu   sync.Mutex
	lock *flock.Flock // held while file is open: two writers would make two ends
	file *os.File
	size int64
	seq  uint64
	head string // hash of the last line
}

// Open opens the log in dir for appending. The problem is what was found wrong with it,
// and recorded; the log is usable all the same. With an error it is not yet: every
// record tries to open it again, and what kept it may have gone.
func Open(dir string, opts Options) (l *Log, problem, err error) {
	if opts.MaxSize == 0 {
		opts.MaxSize = defaultSize
	}
	if opts.Keep == 0 {
		opts.Keep = defaultKeep
	}
	l = &Log{dir: dir, opts: opts, wake: make(chan struct{}, 1)}
	problem, err = l.open(lockWait)
	return l, problem, err
}

// ErrBusy says that another process writes to the log.
var ErrBusy = errors.New("another process writes to the audit log")

// lockWait is for whoever writes a line: a command, while no agent runs.
const (
	lockWait  = 2 * time.Second
	lockPause = 10 * time.Millisecond
)

func (l *Log) open(wait time.Duration) (problem, err error) {
	defer func() {
		if err == nil {
			return
		}
		if l.file != nil {
			_ = l.file.Close()
			l.file = nil
		}
		_ = l.lock.Unlock()
	}()
	l.lock = flock.New(filepath.Join(l.dir, "lock"), flock.SetPermissions(0o600))
	if err := durable.MkdirPrivate(l.dir); err != nil {
		return nil, err
	}
	if err := l.claim(wait); err != nil {
		return nil, err
	}
	paths, err := files(l.dir)
	if err != nil {
		return nil, err
	}
	l.seq, l.head = 0, ""
	if len(paths) == 0 {
		return nil, l.begin()
	}
	return l.reopen(paths[len(paths)-1])
}

// claim takes the lock.
func (l *Log) claim(wait time.Duration) error {
	if ok, err := l.lock.TryLock(); ok || err != nil {
		return err
	}
	if wait == 0 {
		return ErrBusy
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	ok, err := l.lock.TryLockContext(ctx, lockPause)
	switch {
	case ok:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return ErrBusy
	}
	return fmt.Errorf("lock audit log: %w", err)
}

// reopen continues the newest file where it ends.
func (l *Log) reopen(path string) (problem, err error) {
	first := uint64(0)
	if _, err := fmt.Sscanf(filepath.Base(path), "%d.jsonl", &first); err != nil || first == 0 {
		return nil, fmt.Errorf("open audit log: %s has no number", path)
	}
	l.seq = first - 1
	var torn *line
	var bad error
	lines := uint64(0)
	err = scan(path, func(got line) error {
		if !got.whole {
			torn = &line{at: got.at, text: got.text}
			return nil
		}
		lines++
		r, hash, err := parse(got.text)
		if err != nil {
			bad = fmt.Errorf("%s line %d: %w", path, got.n, err)
			return nil
		}
		bad = nil // it is enough that the end can be continued; Verify tells of the rest
		l.seq, l.head = r.Seq, hash
		return nil
	})
	if errors.Is(err, ErrLine) {
		bad, err = err, nil
	}
	if err != nil {
		return nil, err
	}
	if bad != nil {
		l.seq = max(l.seq, first-1+lines)
		if err := l.begin(); err != nil {
			return bad, err
		}
		return bad, l.append(Record{What: Broken, Who: ByAgent, Why: bad.Error()})
	}
	if l.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if torn != nil {
		if err := errors.Join(l.file.Truncate(torn.at), l.file.Sync()); err != nil {
			return nil, fmt.Errorf("open audit log: %w", err)
		}
	}
	info, err := l.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l.size = info.Size()
	if torn == nil {
		return nil, nil
	}
	return nil, l.append(Record{What: Cut, Who: ByAgent, Why: fmt.Sprintf("a crash had cut off the last line after %d bytes", len(torn.text))})
}

// begin starts a new file, and removes the oldest ones.
func (l *Log) begin() error {
	for {
		f, err := os.OpenFile(pathOf(l.dir, l.seq+1), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) { // what lies there is not continued
			l.seq++
			continue
		}
		if err != nil {
			return fmt.Errorf("begin audit file: %w", err)
		}
		if l.file != nil {
			err = errors.Join(l.file.Sync(), l.file.Close())
		}
		l.file, l.size = f, 0
		return errors.Join(err, durable.SyncDir(l.dir), l.prune())
	}
}

func (l *Log) prune() error {
	paths, err := files(l.dir)
	for len(paths) > l.opts.Keep && err == nil {
		err = durable.Remove(paths[0])
		paths = paths[1:]
	}
	return err
}

// Append records that something happened. Seq, Prev and, if it is not set, Time are the
// log's.
func (l *Log) Append(r Record) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		if _, err := l.open(0); err != nil {
			return err
		}
	}
	if err := l.meddled(); err != nil {
		if l.opts.Meddled != nil {
			l.opts.Meddled(err)
		}
		if err := errors.Join(l.begin(), l.append(Record{What: Broken, Who: ByAgent, Why: err.Error()})); err != nil {
			return err
		}
	}
	return l.append(r)
}

// meddled says what somebody did to the file that is written to: what would be appended to
// one that was removed or replaced is lost.
func (l *Log) meddled() error {
	ours, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("look at audit file: %w", err)
	}
	there, err := os.Lstat(l.file.Name())
	switch {
	case err != nil:
		return fmt.Errorf("the audit file is gone: %w", err)
	case !os.SameFile(ours, there):
		return fmt.Errorf("%s was replaced by another file: what was recorded in it is not there", l.file.Name())
	case ours.Size() != l.size:
		return fmt.Errorf("%s has %d bytes, %d were written", l.file.Name(), ours.Size(), l.size)
	}
	return nil
}

// Head is the last record, as [Verify] takes it; empty when there is none, or the log
// cannot be written.
func (l *Log) Head() string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil || l.head == "" {
		return ""
	}
	return fmt.Sprintf("%d:%s", l.seq, l.head)
}

func (l *Log) append(r Record) error {
	if l.size >= l.opts.MaxSize {
		if err := l.begin(); err != nil {
			return err
		}
	}
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	r.Time = r.Time.UTC()
	r.Seq, r.Prev = l.seq+1, l.head
	text, hash, err := encode(r)
	if err != nil {
		return err
	}
	n, err := l.file.Write(append(text, '\n'))
	if err != nil {
		// Half a line in the middle of a file would look like tampering.
		undo := l.file.Truncate(l.size)
		return fmt.Errorf("append to audit log: %w", errors.Join(err, undo))
	}
	l.size += int64(n)
	l.seq, l.head = r.Seq, hash
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// Run makes durable what is appended, until ctx ends.
func (l *Log) Run(ctx context.Context, failed func(error)) {
	if l == nil {
		return
	}
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			_ = l.sync()
			return
		}
		if err := l.sync(); err != nil {
			failed(err)
		}
	}
}

func (l *Log) sync() error {
	l.mu.Lock()
	f := l.file
	l.mu.Unlock()
	if f == nil {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("sync audit log: %w", err)
	}
	return nil
}

// Close makes everything durable and ends the log.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.file.Sync(), l.file.Close(), l.lock.Unlock())
	l.file = nil
	return err
}
