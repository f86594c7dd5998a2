#!/bin/sh
# An application that connects for each piece of work, and reads its password then.
# For a moment of a rotation the server may have the new password and this file not yet, or
# the other way round: what is refused is tried again.
set -eu
trap 'exit 0' TERM

work() {
	PGPASSWORD="$(cat "$PASSWORD_FILE")" psql -qAt -v ON_ERROR_STOP=1 <<'SQL'
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS worked (id serial PRIMARY KEY, at timestamptz DEFAULT now());
INSERT INTO worked DEFAULT VALUES;
SELECT count(*) || ' rows' FROM worked;
SQL
}

while :; do
	if work; then
		touch /tmp/worked
	fi
	sleep 1 &
	wait $!
done
