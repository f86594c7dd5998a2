#!/bin/sh
# Plays the part of the official images' entrypoints, as far as the examples use them, with
# Debian's packages. What an image trusts and as whom it runs is as theirs.
set -eu

as() {
	user=$1
	shift
	setpriv --reuid="$user" --regid="$user" --init-groups "$@"
}

own() {
	install -d -o "$1" -g "$1" "$2" "$3"
}

postgres() {
	data=/var/lib/postgresql/data
	PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
	own postgres "$data" /run/postgresql
	chmod 700 "$data"
	if [ ! -e "$data/PG_VERSION" ]; then
		as postgres initdb -D "$data" -U "$POSTGRES_USER" --auth-local=trust --auth-host=trust >/dev/null
		echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
		as postgres pg_ctl -D "$data" -w -o '-c listen_addresses=' start >/dev/null
		psql -q -v ON_ERROR_STOP=1 -v user="$POSTGRES_USER" -v db="$POSTGRES_DB" -U "$POSTGRES_USER" -d postgres <<-'SQL'
			CREATE DATABASE :"db";
			\set password `cat "$POSTGRES_PASSWORD_FILE"`
			ALTER USER :"user" PASSWORD :'password';
		SQL
		for script in /docker-entrypoint-initdb.d/*.sh; do
			[ ! -e "$script" ] || sh "$script"
		done
		as postgres pg_ctl -D "$data" -w stop >/dev/null
	fi
	exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$data" -c listen_addresses='*'
}

quoted() {
	sed "s/[\\\\']/\\\\&/g" "$1"
}

mysqld() {
	data=/var/lib/mysql
	own mysql "$data" /run/mysqld
	if [ ! -d "$data/mysql" ]; then
		as mysql mariadb-install-db --datadir="$data" --skip-test-db --auth-root-authentication-method=normal >/dev/null
		as mysql mysqld --datadir="$data" --bootstrap <<-SQL
			FLUSH PRIVILEGES;
			DROP USER IF EXISTS ''@localhost, ''@'$(hostname)';
			ALTER USER root@localhost IDENTIFIED BY '$(quoted "$MYSQL_ROOT_PASSWORD_FILE")';
			CREATE DATABASE $MYSQL_DATABASE;
			CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$(quoted "$MYSQL_PASSWORD_FILE")';
			GRANT ALL ON $MYSQL_DATABASE.* TO '$MYSQL_USER'@'%';
		SQL
	fi
	exec setpriv --reuid=mysql --regid=mysql --init-groups mysqld --datadir="$data" --bind-address=0.0.0.0 --skip-name-resolve
}

case $1 in
postgres) postgres ;;
mysqld) mysqld ;;
redis-server)
	chown redis:redis /data
	exec setpriv --reuid=redis --regid=redis --init-groups "$@"
	;;
*) exec "$@" ;;
esac
