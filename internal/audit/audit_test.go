package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func open(t *testing.T, dir string, opts Options) *Log {
	t.Helper()
	l, problem, err := Open(dir, opts)
	assert.NilError(t, err)
	assert.NilError(t, problem)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func newDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	assert.NilError(t, os.Mkdir(dir, 0o700))
	return dir
}

func fill(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		assert.NilError(t, l.Append(Record{What: Deliver, Who: ByAgent, Secret: "local:app/db", Version: fmt.Sprint(i), Container: "web", Why: "start"}))
	}
}

// write is a process that opens the log, writes and ends.
func write(t *testing.T, dir string, n int) {
	t.Helper()
	l := open(t, dir, Options{})
	fill(t, l, n)
	assert.NilError(t, l.Close())
}

func verify(t *testing.T, dir, expect string) Report {
	t.Helper()
	rep, err := Verify(dir, expect)
	assert.NilError(t, err)
	return rep
}

func TestLog_IsAChainOverItsFilesAndOpenings(t *testing.T) {
	dir := newDir(t)
	for range 3 {
		l := open(t, dir, Options{MaxSize: 1000})
		fill(t, l, 10)
		assert.NilError(t, l.Close())
	}
	rep := verify(t, dir, "")
	assert.Equal(t, len(rep.Problems), 0, "%v", rep.Problems)
	assert.Equal(t, rep.Records, 30)
	assert.Equal(t, rep.Last, uint64(30))
	assert.Assert(t, rep.Files > 3)
	var seen []uint64
	assert.NilError(t, All(dir, func(r Record) { seen = append(seen, r.Seq) }))
	assert.Equal(t, len(seen), 30)
}

func TestLog_RemovesTheOldestFilesAndStaysAChain(t *testing.T) {
	dir := newDir(t)
	fill(t, open(t, dir, Options{MaxSize: 500, Keep: 3}), 50)
	rep := verify(t, dir, "")
	assert.Equal(t, len(rep.Problems), 0, "%v", rep.Problems)
	assert.Equal(t, rep.Files, 3)
	assert.Assert(t, rep.First > 1)
	assert.Equal(t, rep.Last, uint64(50))
}

func newest(t *testing.T, dir string) string {
	t.Helper()
	paths, err := files(dir)
	assert.NilError(t, err)
	return paths[len(paths)-1]
}

// Whatever is left of the last line, the next agent goes on, says that a line was cut
// off, and the chain holds.
func TestLog_ATornLastLineIsNoTampering(t *testing.T) {
	whole := newDir(t)
	l := open(t, whole, Options{})
	fill(t, l, 3)
	text, err := os.ReadFile(newest(t, whole))
	assert.NilError(t, err)
	lines := bytes.SplitAfter(text, []byte("\n"))
	kept := len(lines[0]) + len(lines[1])
	for end := kept + 1; end < len(text); end++ {
		dir := newDir(t)
		path := filepath.Join(dir, filepath.Base(newest(t, whole)))
		assert.NilError(t, os.WriteFile(path, text[:end], 0o600))
		rep := verify(t, dir, "")
		assert.Assert(t, rep.Torn && len(rep.Problems) == 0, "%d: %v", end, rep)
		write(t, dir, 1)
		rep = verify(t, dir, "")
		assert.Assert(t, !rep.Torn && len(rep.Problems) == 0 && rep.Cuts == 1 && rep.Records == 4, "%d: %v", end, rep)
	}
}

func TestLog_ATailOfZerosIsATornLine(t *testing.T) {
	for _, zeros := range []int{1, 100, maxLine + 5, 3 * maxLine} {
		dir := newDir(t)
		write(t, dir, 2)
		f, err := os.OpenFile(newest(t, dir), os.O_APPEND|os.O_WRONLY, 0)
		assert.NilError(t, err)
		_, err = f.Write(make([]byte, zeros))
		assert.NilError(t, err)
		assert.NilError(t, f.Close())
		write(t, dir, 1)
		rep := verify(t, dir, "")
		assert.Assert(t, len(rep.Problems) == 0 && rep.Cuts == 1, "%d: %v", zeros, rep)
	}
}

func TestVerify_SeesEveryKindOfTampering(t *testing.T) {
	for name, change := range map[string]func(lines [][]byte) [][]byte{
		"a byte":        func(l [][]byte) [][]byte { l[2] = bytes.Replace(l[2], []byte("web"), []byte("wec"), 1); return l },
		"a line gone":   func(l [][]byte) [][]byte { return append(l[:2:2], l[3:]...) },
		"two exchanged": func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l },
		"one twice":     func(l [][]byte) [][]byte { return append(l[:3:3], l[2:]...) },
		"an empty line": func(l [][]byte) [][]byte { return append(l[:2:2], append([][]byte{[]byte("\n")}, l[2:]...)...) },
		"a line of a new chain": func(l [][]byte) [][]byte {
			line, _, _ := encode(Record{Seq: 3, What: Set, Time: time.Unix(1, 0)})
			l[2] = append(line, '\n')
			return l
		},
		"the end with its newline": func(l [][]byte) [][]byte { l[4] = append(l[4][:20:20], '\n'); return l },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			write(t, dir, 5)
			text, err := os.ReadFile(newest(t, dir))
			assert.NilError(t, err)
			lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
			lines[len(lines)-1] = append(lines[len(lines)-1], '\n')
			assert.NilError(t, os.WriteFile(newest(t, dir), bytes.Join(change(lines), nil), 0o600))
			rep := verify(t, dir, "")
			assert.Assert(t, len(rep.Problems) > 0, "%v", rep)
			assert.Assert(t, !rep.Torn)

			// The agent works on, and what was found stays to be seen.
			l, _, err := Open(dir, Options{})
			assert.NilError(t, err)
			fill(t, l, 1)
			assert.NilError(t, l.Close())
			assert.Assert(t, len(verify(t, dir, "").Problems) > 0)
		})
	}
}

func TestVerify_KnowsAHeadThatWasNoted(t *testing.T) {
	dir := newDir(t)
	write(t, dir, 5)
	head := verify(t, dir, "").Head
	write(t, dir, 5)
	assert.Equal(t, len(verify(t, dir, head).Problems), 0)

	// Somebody writes a log that is a good chain of its own, or removes its end.
	other := newDir(t)
	write(t, other, 10)
	assert.Assert(t, len(verify(t, other, head).Problems) == 1)
	_, err := Verify(dir, "nonsense")
	assert.ErrorContains(t, err, "SEQ:HASH")
}

// What is appended to a file that is not there is lost, and the end of one that was cut off
// is not missed by the chain.
func TestLog_NoticesThatItsFileWasMeddledWith(t *testing.T) {
	for name, meddle := range map[string]func(t *testing.T, path string){
		"replaced": func(t *testing.T, path string) {
			text, err := os.ReadFile(path)
			assert.NilError(t, err)
			assert.NilError(t, os.Remove(path))
			assert.NilError(t, os.WriteFile(path, text, 0o600))
		},
		"removed": func(t *testing.T, path string) { assert.NilError(t, os.Remove(path)) },
		"cut off": func(t *testing.T, path string) { assert.NilError(t, os.Truncate(path, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			var said []error
			l := open(t, dir, Options{Meddled: func(err error) { said = append(said, err) }})
			fill(t, l, 5)
			head := l.Head()
			assert.Equal(t, len(verify(t, dir, head).Problems), 0)
			meddle(t, newest(t, dir))
			if name != "replaced" {
				assert.Assert(t, len(verify(t, dir, head).Problems) > 0)
			}
			fill(t, l, 2)
			assert.Equal(t, len(said), 1)
			rep := verify(t, dir, "")
			assert.Assert(t, rep.Records >= 3, "what came after is there: %+v", rep)
			assert.Equal(t, len(verify(t, dir, l.Head()).Problems), len(rep.Problems))
		})
	}
}

// Two writers would make two ends of the chain.
func TestLog_HasOneWriter(t *testing.T) {
	dir := newDir(t)
	first := open(t, dir, Options{})
	fill(t, first, 1)
	second, _, err := Open(dir, Options{})
	assert.ErrorIs(t, err, ErrBusy)
	assert.ErrorIs(t, second.Append(Record{What: Read, Who: Who{UID: 7}}), ErrBusy)
	assert.NilError(t, first.Close())
	fill(t, second, 1) // the other has gone
	assert.NilError(t, second.Close())
	rep := verify(t, dir, "")
	assert.Assert(t, len(rep.Problems) == 0 && rep.Records == 2, "%v", rep)
}

func TestLog_IsPrivateAndSafeForManyAtOnce(t *testing.T) {
	dir := newDir(t)
	l := open(t, dir, Options{MaxSize: 4000})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				_ = l.Append(Record{What: Read, Who: Who{UID: 7}})
			}
		})
	}
	wg.Wait()
	rep := verify(t, dir, "")
	assert.Assert(t, len(rep.Problems) == 0 && rep.Last == 200, "%v", rep)
	info, err := os.Stat(newest(t, dir))
	assert.NilError(t, err)
	assert.Equal(t, info.Mode().Perm(), os.FileMode(0o600))
	assert.NilError(t, os.Chmod(dir, 0o755))
	_, _, err = Open(dir, Options{})
	assert.ErrorContains(t, err, "0700")
}

// What keeps the log from being opened may go: a full disk, a mode.
func TestLog_OpensItselfWhenItCan(t *testing.T) {
	dir := newDir(t)
	assert.NilError(t, os.Chmod(dir, 0o755))
	l, _, err := Open(dir, Options{})
	assert.ErrorContains(t, err, "0700")
	assert.ErrorContains(t, l.Append(Record{What: Read}), "0700")
	assert.NilError(t, os.Chmod(dir, 0o700))
	fill(t, l, 3)
	assert.NilError(t, l.Close())
	rep := verify(t, dir, "")
	assert.Assert(t, rep.Records == 3 && len(rep.Problems) == 0, "%v", rep)
}

func TestRecord_ALongReasonIsShortened(t *testing.T) {
	dir := newDir(t)
	assert.NilError(t, open(t, dir, Options{}).Append(Record{What: Refuse, Why: strings.Repeat("x\"\n", 100000)}))
	assert.Equal(t, len(verify(t, dir, "").Problems), 0)
}

func FuzzLog(f *testing.F) {
	line, _, _ := encode(Record{Seq: 1, What: Set, Time: time.Unix(1, 0)})
	f.Add(append(line, '\n'))
	f.Add(append(append(line, '\n'), line[:30]...))
	f.Add([]byte("\x00\x00"))
	f.Add([]byte(`{"seq":1}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := newDir(t)
		assert.NilError(t, os.WriteFile(pathOf(dir, 1), text, 0o600))
		before, err := Verify(dir, "")
		assert.NilError(t, err)
		l, _, err := Open(dir, Options{})
		assert.NilError(t, err)
		fill(t, l, 2)
		assert.NilError(t, l.Close())
		after := verify(t, dir, "")
		assert.Assert(t, after.Records >= before.Records+2, "what could be read can still be, and what was added too")
		assert.Assert(t, len(before.Problems) == 0 || len(after.Problems) > 0, "what was found stays to be seen")
	})
}

// A line that is understood is one that was written: what is made of it again is the
// same, byte by byte.
func FuzzParse(f *testing.F) {
	line, _, _ := encode(Record{Seq: 1, What: Set, Time: time.Unix(1, 0).UTC(), Why: "because"})
	f.Add(line)
	f.Add(bytes.Replace(line, []byte("because"), []byte("becausf"), 1))
	f.Add([]byte(`{"seq":1,"hash":"` + strings.Repeat("0", 64) + `"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, hash, err := parse(text)
		if err != nil {
			assert.ErrorIs(t, err, ErrLine)
			return
		}
		assert.Equal(t, len(hash), 64)
		again, _, err := encode(r)
		assert.NilError(t, err)
		_, _, err = parse(again)
		assert.NilError(t, err)
	})
}
