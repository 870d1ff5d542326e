#!/bin/sh
# Installs the phasewatt agent on a board or server: environment, user, settings, service. Run it again to upgrade.
# What it finds wrong it says with the remedy, all of it and before anything is changed. docs/install.md tells more.
set -eu

usage() {
    cat <<'TEXT'
usage: install-agent.sh [options]
  --dry-run           say what would be done, and change nothing
  --wheelhouse DIR    install from the wheels in DIR, without a network (made by `make wheelhouse`)
  --bundle FILE       broker and keys of this board, as `phasewatt-collector enroll` wrote them
  --config FILE       an agent.toml; the certificates and keys that it names become credentials of the service
  --broker HOST:PORT  or no more than the address of a broker on this host, which asks nobody
  --device NAME       name of this board (default: made of the host's name)
  --python FILE       Python to use, 3.10 to 3.13 (default: the host's)
  --torch WHICH       system: the torch that this host's Python has; URL: an index with builds for this platform;
                      wheelhouse: the one in there (default: no torch)
  --no-service        environment and settings only, for hosts without systemd
  --uninstall         remove the agent; settings and records stay
  --purge             with --uninstall: remove them too
  --root DIR          install under DIR; the service is neither registered nor started
TEXT
}

here=$(cd "$(dirname "$0")" && pwd)
dry_run=false service=true uninstall=false purge=false python_given=false
root="" wheelhouse="" bundle="" config="" broker="" device="" python="" torch=""
[ -d "$here/../wheelhouse" ] && wheelhouse=$(cd "$here/../wheelhouse" && pwd)

while [ $# -gt 0 ]; do
    case "$1" in
        --dry-run) dry_run=true ;;
        --no-service) service=false ;;
        --uninstall) uninstall=true ;;
        --purge) purge=true ;;
        --help) usage; exit 0 ;;
        --wheelhouse | --bundle | --config | --broker | --device | --python | --torch | --root)
            [ $# -ge 2 ] || { echo "install-agent: $1: expected a value" >&2; exit 2; }
            case "$1" in
                --wheelhouse) wheelhouse=$2 ;;
                --bundle) bundle=$2 ;;
                --config) config=$2 ;;
                --broker) broker=$2 ;;
                --device) device=$2 ;;
                --python) python=$2 python_given=true ;;
                --torch) torch=$2 ;;
                --root) root=${2%/} ;;
            esac
            shift ;;
        *) echo "install-agent: unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

user=phasewatt
home=$root/opt/phasewatt
state=$root/var/lib/phasewatt-agent
settings=$state/agent.toml
secrets=$root/etc/phasewatt/credentials
units=$root/etc/systemd/system
unit=phasewatt-agent.service
program=$root/usr/local/bin/phasewatt-agent
[ -z "$root" ] || service=false

# shellcheck source=deploy/installer/say.sh
. "$here/installer/say.sh"
# shellcheck source=deploy/installer/host.sh
. "$here/installer/host.sh"
# shellcheck source=deploy/installer/checks.sh
. "$here/installer/checks.sh"
# shellcheck source=deploy/installer/environment.sh
. "$here/installer/environment.sh"
# shellcheck source=deploy/installer/settings.sh
. "$here/installer/settings.sh"
# shellcheck source=deploy/installer/service.sh
. "$here/installer/service.sh"

if $uninstall; then
    check_root
    refuse_if_any
    remove_service
    remove_files
    exit 0
fi

look_at_host
check_root
check_second_agent
check_platform
check_python
check_torch
check_source
check_systemd
check_writable
check_room
check_settings
check_way_in
refuse_if_any
note_clock

make_user
make_environment
make_settings
make_service
start_service
show_doctor
