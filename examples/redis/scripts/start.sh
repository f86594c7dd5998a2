#!/bin/sh
# Starts Redis with two users. "default" is the application's; its password is the secret.
# "admin" may do nothing but change a user, which a rotation needs: by then the file has the
# new password, which the server does not know yet. Its own password is made here, at each
# start, and never leaves the container.
set -eu
umask 077

hash() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

admin=$(head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1)
printf %s "$admin" >/run/redis-admin/password

# The configuration comes on standard input, and holds hashes: the values are in no argument
# list and in no file.
exec docker-entrypoint.sh redis-server - <<CONFIG
user default on #$(hash "$(cat "$REDIS_PASSWORD_FILE")") ~* &* +@all
user admin on #$(hash "$admin") -@all +acl|setuser
appendonly yes
dir /data
CONFIG
