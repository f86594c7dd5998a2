#!/bin/sh
# dpkg: "remove" or "upgrade"; rpm: how many versions will be left. An upgrade undoes
# nothing. A removal takes back what docker dso setup has done, and is refused with their
# names while containers need the runtime.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
[ -e /var/lib/dso/setup.json ] || exit 0
/usr/libexec/docker/cli-plugins/docker-dso dso setup --uninstall --yes
