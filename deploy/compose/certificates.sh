#!/bin/sh
# Fills deploy/compose/secrets: an authority, the certificates of broker and collector, one a board, and passwords.
# usage: certificates.sh BROKER_NAME [BOARD...]; what is there already stays, so boards can be added later.
set -eu
umask 077

[ $# -ge 1 ] || { echo "usage: $0 BROKER_NAME [BOARD...]" >&2; exit 2; }
broker=$1
shift
out=${PHASEWATT_SECRETS:-$(cd "$(dirname "$0")" && pwd)/secrets}
mkdir -p "$out"
cd "$out"

authority() {
    [ ! -f ca.pem ] || return 0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=phasewatt authority" \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout ca.key -out ca.pem 2>/dev/null
}

# certificate FILE NAME USE [ALTERNATIVE NAMES]: signed by the authority for 825 days.
certificate() {
    [ ! -f "$1.pem" ] || return 0
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    {
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=$3"
        [ -z "${4:-}" ] || echo "subjectAltName=$4"
    } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile "$1.ext" -out "$1.pem" 2>/dev/null
    rm -f "$1.csr" "$1.ext"
    echo "made $out/$1.pem"
}

password() {
    [ -f "$1" ] || openssl rand -hex 24 | tr -d '\n' >"$1"
}

authority
case "$broker" in
    *[!0-9.]*) also="DNS:$broker" ;;
    *) also="IP:$broker" ;;
esac
certificate broker "$broker" serverAuth "DNS:broker,$also"
certificate collector collector clientAuth
for board in "$@"; do certificate "$board" "$board" clientAuth; done
password database_password
password grafana_password
printf 'database:5432:phasewatt:phasewatt:%s\n' "$(cat database_password)" >pgpass
