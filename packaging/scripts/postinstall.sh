#!/bin/sh
# dpkg: "configure", and the version before; rpm: how many versions are installed.
set -e
# Containers go on while the agent is replaced, and starts wait for it.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart --no-block dso-agent.service
fi
if grep -qs '"kind": "container"' /var/lib/dso/setup.json; then
	/usr/libexec/docker/cli-plugins/docker-dso dso setup --yes ||
		echo "docker-dso: the agent's container is of the version before; \"docker dso setup\" replaces it"
fi
if [ ! -e /var/lib/dso/setup.json ]; then
	echo "docker-dso: \"docker dso setup\" makes this host one that runs DSO"
fi
