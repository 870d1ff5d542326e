# What keeps a host from getting an agent, each with its remedy. Nothing is changed here.
# shellcheck shell=sh disable=SC2154 # variables of install-agent.sh

needed_mb=200       # the agent's environment is under 60; twice over, while it is upgraded
needed_torch_mb=8000

check_root() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || problem "this needs root" "sudo $0"
}

check_platform() {
    case "$l4t_major" in
        "" | 36 | 38 | 39) return ;;
    esac
    if [ "$l4t_major" -lt 36 ]; then
        words="this is JetPack 5 or older (L4T $l4t): its Python is 3.8 or older, and no torch of today is built for it"
        if $python_given; then
            note "$words" "with $python it can measure power and the CPU alone"
        else
            problem "$words" "update the board to JetPack 6 or 7; or name a newer Python (--python), for power and the CPU alone"
        fi
    else
        note "L4T $l4t is newer than any that was tested" "tell what doctor says of it"
    fi
}

check_python() {
    if [ -z "$python_version" ]; then
        problem "no Python answers (${python:-python3 is not there})" "apt-get install python3 python3-venv, or --python FILE"
    elif ! is_tested "$python_version"; then
        problem "$python is Python $python_version; expected 3.10 to 3.13" "install a newer one beside it, and name it: --python FILE"
    elif ! "$python" -c 'import venv; from ensurepip import version' 2>/dev/null; then
        problem "Python $python_version has no module venv" "apt-get install python$python_version-venv"
    fi
}

check_torch() {
    case "$torch" in
        "" | http://* | https://* | file://*) return ;;
        wheelhouse)
            [ -n "$(find "${wheelhouse:-/nowhere}" -name 'torch-*.whl' 2>/dev/null)" ] ||
                problem "--torch wheelhouse: no torch lies in ${wheelhouse:-a wheelhouse}" "put the platform's wheel there" ;;
        system)
            found=$("$python" -c 'import torch; print((torch.version.cuda or "none").split(".")[0])' 2>/dev/null || true)
            if [ -z "$found" ]; then
                problem "--torch system: $python has no torch" "$(torch_remedy)"
            elif [ -n "$(cuda_major)" ] && [ "$found" != "$(cuda_major)" ]; then
                problem "--torch system: it is built for CUDA $found, and this platform has CUDA $(cuda_major)" "$(torch_remedy)"
            fi ;;
        *) problem "--torch $torch: expected system, wheelhouse, or the URL of an index" "$(torch_remedy)" ;;
    esac
}

# Which builds of torch are right here.
torch_remedy() {
    case "$l4t_major:$(cuda_major)" in
        36:*) echo "take the index jp6/cu126 of the Jetson AI Lab: --torch URL" ;;
        38:* | 39:*) echo "take the index sbsa/cu130 of the Jetson AI Lab: --torch URL" ;;
        :12) echo "this driver is for CUDA 12: take PyTorch's own index cu126: --torch URL" ;;
        :13) echo "this driver is for CUDA 13: take PyTorch's own index cu130: --torch URL" ;;
        *) echo "there is no NVIDIA GPU: take PyTorch's own index cpu: --torch URL" ;;
    esac
}

check_source() {
    if [ -n "$wheelhouse" ]; then
        found=$(find "$wheelhouse" -maxdepth 1 -name 'phasewatt-*.whl' 2>/dev/null | wc -l)
        [ "$found" = 1 ] || problem "--wheelhouse $wheelhouse: expected one phasewatt-*.whl in it, found $found" "make wheelhouse"
    elif [ ! -f "$here/../setup.py" ]; then
        problem "no wheelhouse, and no checkout around this installer" "make wheelhouse, and --wheelhouse DIR"
    fi
}

check_systemd() {
    $service || return 0
    [ -d /run/systemd/system ] && return
    problem "no systemd runs here, so there is nothing to register a service with" \
        "--no-service; then have your own supervisor run, and start again: phasewatt-agent serve --state-dir /var/lib/phasewatt-agent"
}

check_writable() {
    for path in "$home" "$state" "$secrets" "$units" "$program"; do
        there=$(nearest "$path")
        [ -w "$there" ] && continue
        problem "$there cannot be written" \
            "mount -o remount,rw $(df -P "$there" | awk 'NR == 2 {print $6}'); where the root is read-only for good, install when its image is built (--root DIR)"
        return
    done
}

check_room() {
    needed=$needed_mb
    case "$torch" in "" | system) ;; *) needed=$needed_torch_mb ;; esac
    for path in "$home" "$state"; do
        there=$(nearest "$path")
        free=$(df -Pm "$there" | awk 'NR == 2 {print $4}')
        [ "$free" -ge "$needed" ] && continue
        problem "no room: $free MB free in $there, expected $needed" "free some space there, or mount a larger disk"
        return
    done
}

check_settings() {
    for file in "$bundle" "$config"; do
        [ -z "$file" ] || [ -r "$file" ] || problem "$file cannot be read" "check the path"
    done
    case "$broker" in
        "" | localhost:* | 127.*:* | "[::1]":*) ;;
        *) problem "--broker $broker: a broker on another host must speak TLS and ask who this is" \
            "phasewatt-collector enroll NAME in the centre, and --bundle FILE here" ;;
    esac
    [ -z "$broker" ] || [ -z "$bundle$config" ] ||
        problem "--broker excludes --bundle and --config, which name the broker" "leave it out"
}

# What would let this board in: is it for this board, and does it hold today?
check_way_in() {
    [ -n "$python_version" ] || return 0
    for file in "$bundle" "$config"; do
        [ -r "$file" ] || continue
        # shellcheck disable=SC2046 # names have no spaces
        found=$("$python" "$here/installer/way_in.py" "$file" $(own_names) 2>&1) || problem "$file: $found" "check the file"
        while IFS="$(printf '\t')" read -r what remedy; do
            [ -z "$remedy" ] || problem "$what" "$remedy"
        done <<END
$found
END
    done
}

# The names that this board has: by the command line, by what it stored, and by its settings.
own_names() {
    echo "$device"
    cat "$state/device" 2>/dev/null || true
    sed -n 's/^ *device *= *"\([^"]*\)".*/\1/p' "${config:-$settings}" 2>/dev/null || true
}

# An agent that this installer did not start: the package's, or one that somebody runs by hand.
check_second_agent() {
    [ -z "$root" ] || return 0
    if dpkg-query -W -f='${Status}' phasewatt-agent 2>/dev/null | grep -q '^install ok installed'; then
        problem "the Debian package phasewatt-agent is installed here" "upgrade that one with apt, or: apt-get remove phasewatt-agent"
    fi
    holder=$(holder_of "$state/lock")
    [ -n "$holder" ] || return 0
    ours=$(systemctl show -p MainPID --value "$unit" 2>/dev/null || true)
    [ "$holder" = "$ours" ] || problem "a second agent: process $holder works in $state" "end it: kill $holder"
}

# The process that holds a lock file, as the kernel lists them.
holder_of() {
    inode=$(stat -c %i "$1" 2>/dev/null) || return 0
    awk -v inode=":$inode\$" '$2 == "FLOCK" && $6 ~ inode {print $5; exit}' /proc/locks 2>/dev/null
}

note_clock() {
    $service || return 0
    [ "$(timedatectl show -p NTPSynchronized --value 2>/dev/null || echo unknown)" = yes ] && return
    note "the clock is not known to be synchronised: dates are labels only, and certificates may seem expired" \
        "apt-get install chrony (or systemd-timesyncd), and let it reach a time server"
}
