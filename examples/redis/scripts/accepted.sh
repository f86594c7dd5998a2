#!/bin/sh
# Whether the server on a host accepts the password in the file.
set -eu
REDISCLI_AUTH="$(cat "$REDIS_PASSWORD_FILE")" redis-cli -h "$1" ping | grep -qx PONG
