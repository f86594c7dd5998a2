#!/bin/sh
# Sees to it that the server accepts the password in the file. It is the command of a
# rotation and the health check: a password that changed while the server was down reaches
# the volume at the next check. To run it twice, or two at once, is to run it once.
set -eu

# By the host's name: the image trusts every connection over the socket and 127.0.0.1,
# which would prove nothing. The value is in a variable and in no argument.
accepted() {
	PGPASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")" \
		psql -qAt -h "$(hostname)" -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c 'SELECT 1' >/dev/null
}

# psql reads the file itself, and the server is not to log the statement. The lock is for two
# at once, of which PostgreSQL would refuse one.
change() {
	psql -q -v ON_ERROR_STOP=1 -v user="$POSTGRES_USER" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SELECT pg_advisory_lock(1);
\set password `cat "$POSTGRES_PASSWORD_FILE"`
ALTER USER :"user" PASSWORD :'password';
SQL
}

if accepted 2>/dev/null; then
	exit 0
fi
# What is said about the statement is thrown away: it could quote it, and docker inspect shows
# what a health check says.
change >/dev/null 2>&1 || echo 'the server did not take the password' >&2
accepted
