package lane

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"gotest.tools/v3/assert"
	"gotest.tools/v3/poll"
)

// One that ends before anybody listens is told of too.
func TestOnExit_OfAProcessThatHasJustEnded(t *testing.T) {
	p := exec.Command("true")
	assert.NilError(t, p.Start())
	t.Cleanup(func() { _ = p.Wait() })
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		if err != nil || !strings.Contains(string(stat), ") Z ") {
			return poll.Continue("it still runs: %v", err)
		}
		return poll.Success()
	})
	var told sync.WaitGroup
	for range 500 {
		told.Add(1)
		_, err := onExit(p.Process.Pid, told.Done)
		assert.NilError(t, err)
	}
	all := make(chan struct{})
	go func() { told.Wait(); close(all) }()
	poll.WaitOn(t, func(poll.LogT) poll.Result {
		select {
		case <-all:
			return poll.Success()
		default:
			return poll.Continue("not all were told")
		}
	})
}
