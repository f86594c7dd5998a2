package testengine

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
)

// blackout undoes what a power cut undoes: every mount below /run and the
// engine's runtime directory, and what lies there. /run itself is the holder's; what
// cannot be unmounted lies below it, from the time before.
const blackout = `set -e
for dir in /run "$1/exec"; do
	awk -v d="$dir/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r m; do umount -l "$m" 2>/dev/null || true; done
	rm -rf "$dir"/* "$dir"/.[!.]*
done
awk -v d="$1/data/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r | while read -r m; do umount -l "$m" 2>/dev/null || true; done
ip -brief link | awk '{sub("@.*", "", $1); if ($1 != "eth0" && $1 != "lo") print $1}' |
	while read -r link; do ip link delete "$link" 2>/dev/null || true; done
mkdir -p /run/dso /run/lock
`

// CutPower ends the host: the daemon, every container and every other process
// inside die at once, and /run is empty. The clients on the other host live on.
// [Engine.StartDaemon] boots it again.
func (e *Engine) CutPower(ctx context.Context) error {
	e.daemon.kill()
	id := e.identity()
	defer id.release()
	var client syscall.Stat_t
	if syscall.Stat(netnsPath(e.client), &client) == nil {
		delete(id.namespaces, fmt.Sprintf("net:[%d]", client.Ino))
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	err := poll(ctx, func() (bool, error) {
		left := false
		for _, pid := range processes() {
			if pid != e.holder.pid() && id.owns(pid) {
				left = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		return !left, nil
	})
	if err != nil {
		return fmt.Errorf("cut power of %s: %w", e.name, err)
	}
	if out, err := e.Command(ctx, "sh", "-c", blackout, "sh", e.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cut power of %s: %w: %s", e.name, err, bytes.TrimSpace(out))
	}
	return nil
}
