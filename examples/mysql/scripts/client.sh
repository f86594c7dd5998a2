#!/bin/sh
# An application that connects for each piece of work, and reads its password then.
# For a moment of a rotation the server may have the new password and this file not yet, or
# the other way round: what is refused is tried again.
set -eu
trap 'exit 0' TERM
client=$(command -v mariadb || command -v mysql)

work() {
	MYSQL_PWD="$(cat "$PASSWORD_FILE")" "$client" -h db -u app -N app <<'SQL'
CREATE TABLE IF NOT EXISTS worked (id INT AUTO_INCREMENT PRIMARY KEY);
INSERT INTO worked VALUES (NULL);
SELECT CONCAT(COUNT(*), ' rows') FROM worked;
SQL
}

while :; do
	if work; then
		touch /tmp/worked
	fi
	sleep 1 &
	wait $!
done
