package watch

import "time"

// budget bounds the calls per minute. Polls wait until there is something left; what
// cannot wait is charged all the same, and the polls make up for it.
type budget struct {
	perMinute int // zero: no bound
	left      float64
	at        time.Time // of what is left
}

// burst is how many calls may follow each other at once. It is small, and what is
// given back in a minute is less by as much, so that no minute has more than it may.
func (b *budget) burst() float64 { return max(1, float64(b.perMinute)/60) }

// rate is what is given back in a second.
func (b *budget) rate() float64 {
	if b.perMinute == 1 {
		return 1. / 60
	}
	return (float64(b.perMinute) - b.burst()) / 60
}

func (b *budget) fill(now time.Time) {
	if b.at.IsZero() {
		b.left = b.burst()
	} else if passed := now.Sub(b.at); passed > 0 {
		b.left = min(b.burst(), b.left+passed.Seconds()*b.rate())
	}
	b.at = now
}

// charge takes one call. What is owed is at most a minute's calls.
func (b *budget) charge(now time.Time) {
	if b.perMinute == 0 {
		return
	}
	b.fill(now)
	b.left = max(b.left-1, -float64(b.perMinute))
}

// wait is how long until a call is within the budget.
func (b *budget) wait(now time.Time) time.Duration {
	if b.perMinute == 0 {
		return 0
	}
	b.fill(now)
	// One call is as good as whole a billionth before: the sum of many parts is not exact.
	if missing := 1 - b.left; missing > 1e-9 {
		return time.Duration(missing/b.rate()*float64(time.Second)) + 1
	}
	return 0
}
