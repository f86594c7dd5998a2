package lab

import "time"

// eventuallyWait bounds what [Eventually] waits, and eventuallyPause is the pause
// between two looks.
const (
	eventuallyWait  = 30 * time.Second
	eventuallyPause = 5 * time.Millisecond
)

// Eventually waits until done, and ends the test when that takes too long; what says
// what is waited for.
func Eventually(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, what string, done func() bool) {
	t.Helper()
	deadline := time.After(eventuallyWait)
	tick := time.NewTicker(eventuallyPause)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, eventuallyWait)
		}
	}
}
