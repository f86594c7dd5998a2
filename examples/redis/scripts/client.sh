#!/bin/sh
# An application that connects for each piece of work, and reads its password then.
# For a moment of a rotation the server may have the new password and this file not yet, or
# the other way round: what is refused is tried again.
set -eu
trap 'exit 0' TERM

while :; do
	said=$(REDISCLI_AUTH="$(cat "$REDIS_PASSWORD_FILE")" redis-cli -h redis incr worked 2>&1) || true
	case $said in
	'' | *[!0-9]*) echo "refused: $said" >&2 ;;
	*) echo "worked $said times" && touch /tmp/worked ;;
	esac
	sleep 1 &
	wait $!
done
