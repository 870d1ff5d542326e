# What this host is: release of L4T, Python, machine.
# shellcheck shell=sh disable=SC2154,SC2034 # variables of install-agent.sh, and for the files after this one

look_at_host() {
    l4t=$(sed -n 's/^# R\([0-9]*\) (release), REVISION: \([0-9.]*\).*/\1.\2/p' "$root/etc/nv_tegra_release" 2>/dev/null || true)
    l4t_major=${l4t%%.*}
    machine=$(uname -m)
    [ -n "$python" ] || python=$(first_python)
    python_version=$(version_of "$python")
}

# The first Python that is new enough, else whatever python3 is.
first_python() {
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        path=$(command -v "$name" 2>/dev/null) || continue
        is_tested "$(version_of "$path")" && { echo "$path"; return; }
    done
    command -v python3 2>/dev/null || true
}

version_of() {
    [ -n "$1" ] || return 0
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

is_tested() {
    case "$1" in
        3.10 | 3.11 | 3.12 | 3.13) return 0 ;;
        *) return 1 ;;
    esac
}

# The nearest directory of a path that exists.
nearest() {
    path=$1
    while [ ! -d "$path" ]; do path=$(dirname "$path"); done
    echo "$path"
}

# CUDA's major that the driver or the board is for; nothing where there is no NVIDIA GPU.
cuda_major() {
    case "$l4t_major" in
        36) echo 12; return ;;
        38 | 39) echo 13; return ;;
    esac
    driver=$(sed -n 's/.*Module  *\([0-9]*\)\..*/\1/p' "$root/proc/driver/nvidia/version" 2>/dev/null | head -n 1)
    [ -n "$driver" ] || return 0
    if [ "$driver" -ge 580 ]; then echo 13; else echo 12; fi
}
