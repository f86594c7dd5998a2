package lane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// dockerUser is the chain that the engine calls first for what it forwards, and
// never changes itself.
const dockerUser = "DOCKER-USER"

// passRule lets the first packet of a connection of the lane through; the engine
// lets the rest of it through as it does for its own.
var passRule = []string{
	"-m", "mark", "--mark", fmt.Sprintf("0x%x/0x%x", Mark, Mark),
	"-m", "comment", "--comment", "dso fast lane", "-j", "ACCEPT",
}

// natFamilies says in which families somebody else has the kernel translate
// addresses. Where nobody does, the connections of the lane would end with its table:
// the kernel goes on translating what is established only while any table does.
func natFamilies() (v4, v6 bool, err error) {
	c, err := nftables.New()
	if err != nil {
		return false, false, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return false, false, fmt.Errorf("list chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Type != nftables.ChainTypeNAT || ch.Table.Name == Table {
			continue
		}
		v4 = v4 || ch.Table.Family == nftables.TableFamilyIPv4 || ch.Table.Family == nftables.TableFamilyINet
		v6 = v6 || ch.Table.Family == nftables.TableFamilyIPv6 || ch.Table.Family == nftables.TableFamilyINet
	}
	// The older kind of iptables, which nft does not see.
	return v4 || legacyNAT("ip"), v6 || legacyNAT("ip6"), nil
}

func legacyNAT(family string) bool {
	names, err := os.ReadFile("/proc/self/net/" + family + "_tables_names")
	return err == nil && slices.Contains(strings.Fields(string(names)), "nat")
}

// pass makes sure that the engine's firewall lets the lane's connections through. The
// programs are those below root.
func pass(ctx context.Context, root string) error {
	if err := nftablesPass(); err != nil {
		return err
	}
	for _, name := range tables {
		p := find(root, name)
		if has, err := p.hasDockerUser(ctx); err != nil || !has {
			if err != nil {
				return err
			}
			continue
		}
		if _, err := p.run(ctx, append([]string{"-C", dockerUser}, passRule...)...); err == nil {
			continue
		}
		if out, err := p.run(ctx, append([]string{"-I", dockerUser}, passRule...)...); err != nil {
			return fmt.Errorf("%s: let the fast lane through %s: %w: %s", name, dockerUser, err, out)
		}
	}
	return nil
}

// Forget removes the rule in the engine's firewall, however often it is there, with the
// programs below root.
func Forget(ctx context.Context, root string) error {
	var errs []error
	for _, name := range tables {
		p := find(root, name)
		has, err := p.hasDockerUser(ctx)
		for has && err == nil {
			if _, gone := p.run(ctx, append([]string{"-C", dockerUser}, passRule...)...); gone != nil {
				break
			}
			_, err = p.run(ctx, append([]string{"-D", dockerUser}, passRule...)...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// The programs that know the engine's chain, and where they are.
var (
	tables     = []string{"iptables", "ip6tables"}
	programDir = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
)

// program is one of the tables'. An agent in a container has none of its own and calls
// the host's, in the host's tree of files.
type program struct {
	root string // empty: its own
	path string // empty: there is none
}

func find(root, name string) program {
	if root == "" {
		path, _ := exec.LookPath(name)
		return program{path: path}
	}
	for _, dir := range programDir {
		path := filepath.Join(dir, name)
		// A link may be one that leads somewhere only in that tree.
		if _, err := os.Lstat(filepath.Join(root, path)); err == nil {
			return program{root, path}
		}
	}
	return program{}
}

// hasDockerUser says whether the engine has its chain there. A host without the
// program has no such chain.
func (p program) hasDockerUser(ctx context.Context) (bool, error) {
	if p.path == "" {
		return false, nil
	}
	out, err := p.run(ctx, "-S", dockerUser)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s -S %s: %w: %s", p.path, dockerUser, err, out)
	}
	return true, nil
}

// run waits for the lock that the engine and others hold while they write.
func (p program) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.path, append([]string{"-w", "5"}, args...)...)
	if p.root != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root}
		cmd.Dir = "/"
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// dockerTable is the engine's own table when it writes nft rules (engine 29 and
// later, "firewall-backend": "nftables").
const dockerTable = "docker-bridges"

// nftablesPass finds out whether an engine that writes nft rules itself lets the lane
// through. Nobody else's rule can make it: in nft an accept ends one chain, not all.
func nftablesPass() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		chains, err := c.ListChainsOfTableFamily(family)
		if err != nil {
			return fmt.Errorf("list chains: %w", err)
		}
		found, accepted := false, false
		for _, ch := range chains {
			if ch.Table.Name != dockerTable {
				continue
			}
			found = true
			rules, err := c.GetRules(ch.Table, ch)
			if err != nil {
				return fmt.Errorf("list rules of %s: %w", dockerTable, err)
			}
			for _, r := range rules {
				accepted = accepted || acceptsMark(r)
			}
		}
		if found && !accepted {
			return fmt.Errorf(`%w: the engine writes nft rules and does not let it through: add "bridge-accept-fwmark": "0x%x/0x%x" to daemon.json`, ErrUnsupported, Mark, Mark)
		}
	}
	return nil
}

// acceptsMark says whether a rule accepts what has the lane's mark.
func acceptsMark(r *nftables.Rule) bool {
	marked, accepts := false, false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Cmp:
			marked = marked || string(e.Data) == string(binaryutil.NativeEndian.PutUint32(Mark))
		case *expr.Verdict:
			accepts = accepts || e.Kind == expr.VerdictAccept
		}
	}
	return marked && accepts
}
