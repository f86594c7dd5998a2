#!/bin/sh
# dpkg: "remove", "purge" or "upgrade"; rpm: how many versions are left.
set -e
if [ "$1" = purge ]; then
	rm -rf /etc/dso /var/lib/dso
	if [ -e /root/.dso ]; then
		echo "docker-dso: the vault in /root/.dso stays; it is yours to remove"
	fi
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
