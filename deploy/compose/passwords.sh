#!/bin/sh
# Fills deploy/compose/secrets: the passwords of the database and of Grafana. What is there already stays.
set -eu

out=${PHASEWATT_SECRETS:-$(cd "$(dirname "$0")" && pwd)/secrets}
mkdir -p "$out"
chmod 700 "$out"
cd "$out"

# Compose shows files to containers as they are here, and the programs in there are other users: the folder is what
# keeps them from the users of this host.
password() {
    [ -f "$1" ] || head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$1"
    chmod 444 "$1"
}

password database_password
password grafana_password
# libpq takes this file from its owner alone: user 10002 of the collector's image.
[ -f pgpass ] || (umask 077 && printf 'database:5432:phasewatt:phasewatt:%s\n' "$(cat database_password)" >pgpass)
chown 10002:10002 pgpass 2>/dev/null || echo "as root: chown 10002:10002 $out/pgpass"
