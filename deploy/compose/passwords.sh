#!/bin/sh
# Fills deploy/compose/secrets: the passwords of the database, of Grafana and of the collector's page. What is there
# already stays.
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
password scrape_password
# libpq and the collector take these files from their owner alone: user 10002 of the collector's image.
[ -f pgpass ] || (umask 077 && printf 'database:5432:phasewatt:phasewatt:%s\n' "$(cat database_password)" >pgpass)
[ -f web_password ] || (umask 077 && cat scrape_password >web_password)
chown 10002:10002 pgpass web_password 2>/dev/null || echo "as root: chown 10002:10002 $out/pgpass $out/web_password"
