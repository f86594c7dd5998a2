#!/bin/sh
# Sees to it that the server accepts the password in the file. It is the command of a
# rotation and the health check: a password that changed while the server was down reaches
# the volume at the next check. To run it twice, or two at once, is to run it once.
set -eu
client=$(command -v mariadb || command -v mysql)

# Over TCP: a server that is still being set up listens on its socket alone. The value is in
# a variable and in no argument.
accepted() {
	MYSQL_PWD="$(cat "$MYSQL_PASSWORD_FILE")" \
		"$client" -h 127.0.0.1 -u "$MYSQL_USER" -e 'SELECT 1' "$MYSQL_DATABASE" >/dev/null
}

root() {
	MYSQL_PWD="$(cat "$MYSQL_ROOT_PASSWORD_FILE")" "$client" -u root "$@"
}

# The statement is written by the shell itself and read from standard input. In a string of
# SQL, quotes and backslashes have a backslash in front.
change() {
	quoted=$(sed "s/[\\\\']/\\\\&/g" "$MYSQL_PASSWORD_FILE")
	printf "ALTER USER '%s'@'%%' IDENTIFIED BY '%s';\n" "$MYSQL_USER" "$quoted" | root
}

# Without root the next password could not be set, and that would be known only then.
root -e 'SELECT 1' >/dev/null
if accepted 2>/dev/null; then
	exit 0
fi
# What is said about the statement is thrown away: it could quote it, and docker inspect shows
# what a health check says.
change >/dev/null 2>&1 || echo 'the server did not take the password' >&2
accepted
