#!/bin/sh
# Makes the password in the file the application's, and the one before worthless. To run it
# twice is to run it once.
set -eu

hash=$(printf %s "$(cat "$REDIS_PASSWORD_FILE")" | sha256sum | cut -d ' ' -f 1)
# redis-cli takes the command from standard input, and its own password from a variable.
printf 'ACL SETUSER default resetpass #%s\n' "$hash" |
	REDISCLI_AUTH="$(cat /run/redis-admin/password)" redis-cli --user admin --no-auth-warning >/dev/null
# It exits with 0 whatever the server says.
exec sh /scripts/accepted.sh 127.0.0.1
