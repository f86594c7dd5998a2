# Makes the file system of a test host and becomes its systemd.
# Arguments: the base system, the host's directory.
set -e
base=$1 dir=$2
root=$dir/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$root"
# An engine cannot put its overlays on an overlay.
mkdir -p "$root/var/lib/docker"
mount --bind "$dir/docker" "$root/var/lib/docker"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	umount "$root/sys/fs/cgroup"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
	for controller in /sys/fs/cgroup/*; do
		name=$(basename "$controller")
		mkdir "$root/sys/fs/cgroup/$name"
		case $name in
		systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/$name" ;;
		unified) mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/$name" ;;
		*) mount -t cgroup -o "$name" cgroup "$root/sys/fs/cgroup/$name" ;;
		esac
	done
fi
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty fuse net/tun; do
	[ -e "/dev/$node" ] || continue
	mkdir -p "$(dirname "$root/dev/$node")"
	touch "$root/dev/$node"
	mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
hostname dso-host
# udev leaves a machine alone whose /sys is read-only.
mount -o remount,ro,bind "$root/sys"
cd "$root"
mkdir -p .old
pivot_root . .old
mount --make-rshared /
exec chroot . /bin/sh -c 'umount -l /.old && exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=dso-test /lib/systemd/systemd --log-target=journal' </dev/null
