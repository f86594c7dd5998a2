#!/bin/sh
# dpkg: "configure", and the version before; rpm: how many versions are installed.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# Containers go on while the agent is replaced, and starts wait in its socket.
systemctl try-restart --no-block dso-agent.service
if [ ! -e /var/lib/dso/setup.json ]; then
	echo "docker-dso: \"docker dso setup\" makes this host one that runs DSO"
fi
