package rotation

import (
	"fmt"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// Without its engine a front hears of no name any more; what it forwards stays.
func TestEngine_WhileItIsDeadTrafficFlowsAndAfterwardsRotationsWork(t *testing.T) {
	begin(t)
	set(t, "dead/marker", "v1")
	up(t, "dead", fmt.Sprintf(web, 8130)+"    restart: always\n")
	_, finish := startLoad(t, url(8130))
	assert.NilError(t, shared.Kill())
	<-time.After(4 * time.Second) // a time without the engine, not a wait for something
	finish()
	assert.NilError(t, shared.StartDaemon(t.Context()))
	lab.Eventually(t, "the application is back", func() bool {
		out, _ := shared.ClientCommand(t.Context(), "answerer", "get", url(8130)).CombinedOutput()
		return string(out) == "v1\n"
	})
	set(t, "dead/marker", "v2")
	assert.Equal(t, answer(t, url(8130)), "v2")
	noLeftovers(t)
}
