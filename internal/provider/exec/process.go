package exec

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/program"
)

// process is one run of the program.
type process struct {
	cmd     *osexec.Cmd
	stdin   io.WriteCloser
	changed func() // called for each event of that name

	writing sync.Mutex

	mu      sync.Mutex
	next    int64
	waiting map[int64]chan program.Answer
	ended   chan struct{} // closed after err is set
	err     error
	useful  bool // it has answered something
	gone    bool // it is being waited for: its number may be somebody else's soon
}

// open returns the program's file when it is one that only its owner can change and
// has the pinned hash.
func open(cfg Config) (*os.File, error) {
	f, err := os.Open(cfg.Program)
	if err != nil {
		return nil, fmt.Errorf("open the program: %w (%w)", err, provider.ErrPermanent)
	}
	if err := check(f, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("%w (%w)", err, provider.ErrPermanent), f.Close())
	}
	return f, nil
}

func check(f *os.File, cfg Config) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	perm := st.Mode().Perm()
	switch {
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", cfg.Program)
	case perm&0o111 == 0:
		return fmt.Errorf("%s has mode %04o and cannot be executed: chmod +x %s", cfg.Program, perm, cfg.Program)
	case perm&0o022 != 0:
		return fmt.Errorf("%s has mode %04o and can be changed by others than its owner: chmod go-w %s", cfg.Program, perm, cfg.Program)
	case cfg.SHA256 == "":
		return nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("read %s: %w", cfg.Program, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != cfg.SHA256 {
		return fmt.Errorf("%s has the SHA-256 %s and not the one that is pinned", cfg.Program, got)
	}
	return nil
}

// start starts the program and says hello.
func start(ctx context.Context, name string, cfg Config, changed func()) (*process, error) {
	f, err := open(cfg)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	env, err := cfg.Env()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrCredential, err)
	}
	// The child executes the open file, its descriptor 3: nobody can put another in
	// its place. Its end is that of its standard input, and of the agent, also while it
	// does not read: the kernel sends the signal.
	cmd := &osexec.Cmd{
		Path: "/proc/self/fd/3", Args: append([]string{cfg.Program}, cfg.Args...), Env: env, Dir: "/",
		ExtraFiles: []*os.File{f}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would mean the agent's own
	}
	p := &process{cmd: cmd, changed: changed, waiting: map[int64]chan program.Answer{}, ended: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		// The signal comes when the thread ends that started the program, which is then
		// this one, until the program has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.read(bufio.NewReaderSize(stdout, 64<<10))
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	a, err := p.ask(ctx, cfg.Timeout, program.Question{Method: "hello", Protocol: program.Protocol, Provider: name, Watch: true})
	if err == nil && a.Protocol != program.Protocol {
		err = fmt.Errorf("the program speaks protocol %d, and not %d (%w)", a.Protocol, program.Protocol, provider.ErrPermanent)
	}
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// read passes answers and events on until the program ends or writes something else.
func (p *process) read(r *bufio.Reader) {
	var err error
	for err == nil {
		var line []byte
		if line, err = program.ReadLine(r); err != nil {
			break
		}
		var a program.Answer
		if a, err = program.Parse(line); err != nil {
			break
		}
		if a.ID == 0 {
			if a.Event == program.Changed { // others may come with another version
				p.changed()
			}
			continue
		}
		p.mu.Lock()
		if ch := p.waiting[a.ID]; ch != nil { // else whoever asked went away
			delete(p.waiting, a.ID)
			p.useful = true
			ch <- a
		}
		p.mu.Unlock()
	}
	p.signal(syscall.SIGKILL)
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	_ = p.stdin.Close()
	state := p.cmd.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, os.ErrClosed) {
		err = errors.New("the program ended")
		if state != nil {
			err = fmt.Errorf("the program ended: %w", state)
		}
	}
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	close(p.ended)
}

// ask asks one question. A program that leaves it unanswered for the timeout is
// killed; the caller's own ctx only ends the wait.
func (p *process) ask(ctx context.Context, timeout time.Duration, q program.Question) (program.Answer, error) {
	ch := make(chan program.Answer, 1)
	p.mu.Lock()
	p.next++
	q.ID = p.next
	p.waiting[q.ID] = ch
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, q.ID)
		p.mu.Unlock()
	}()
	line, err := json.Marshal(q)
	if err != nil {
		return program.Answer{}, fmt.Errorf("encode the question: %w", provider.ErrPermanent)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	go p.write(append(line, '\n')) // a program that does not read holds up this goroutine only
	select {
	case a := <-ch:
		if a.Error != nil {
			return a, a.Error.Err()
		}
		return a, nil
	case <-p.ended:
		return program.Answer{}, p.err
	case <-timer.C:
		p.kill()
		return program.Answer{}, fmt.Errorf("the program left a question unanswered for %s and was killed", timeout)
	case <-ctx.Done():
		return program.Answer{}, fmt.Errorf("wait for the program: %w", ctx.Err())
	}
}

// write ends when the program reads the line, or when it ends.
func (p *process) write(line []byte) {
	p.writing.Lock()
	defer p.writing.Unlock()
	_, _ = p.stdin.Write(line) // the reader notices when there is nobody
}

// signal reaches the program and everything that it started.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

// kill ends the program with everything that it started, and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// close asks the program to end, by the end of its input.
func (p *process) close(grace time.Duration) {
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(grace):
		p.kill()
	}
}
