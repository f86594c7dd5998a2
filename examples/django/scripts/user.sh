#!/bin/sh
# Sees to it that the server accepts the user and the password in the files. It is the command
# of a rotation and the health check. To run it twice, or two at once, is to run it once.
# A user that was there before is left alone: who is still logged in with it goes on.
set -eu

# By the host's name: the image trusts every connection over the socket and 127.0.0.1,
# which would prove nothing. The values are in variables and in no argument.
accepted() {
	PGUSER="$(cat "$DATABASE_USER_FILE")" PGPASSWORD="$(cat "$DATABASE_PASSWORD_FILE")" PGDATABASE="$POSTGRES_DB" \
		psql -qAt -h "$(hostname)" -c 'SELECT 1' >/dev/null
}

# psql reads the files itself, and the server is not to log the statements. All users are the
# role "app" once they are logged in, so that what one of them makes belongs to all of them.
change() {
	psql -q -v ON_ERROR_STOP=1 -v db="$POSTGRES_DB" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SELECT pg_advisory_lock(1);
\set user `cat "$DATABASE_USER_FILE"`
\set password `cat "$DATABASE_PASSWORD_FILE"`
SELECT 'CREATE ROLE app NOLOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app') \gexec
GRANT CREATE ON SCHEMA public TO app;
SELECT format('CREATE ROLE %I IN ROLE app', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" LOGIN PASSWORD :'password';
ALTER ROLE :"user" IN DATABASE :"db" SET role = 'app';
SQL
}

if accepted 2>/dev/null; then
	exit 0
fi
# What is said about the statement is thrown away: it could quote it, and docker inspect shows
# what a health check says.
change >/dev/null 2>&1 || echo 'the server did not take the password' >&2
accepted
