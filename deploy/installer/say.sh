# How the installer speaks, and does: one line a step, nothing done in a dry run.
# shellcheck shell=sh disable=SC2154 # variables of install-agent.sh

problems=0

say() { echo "install-agent: $*"; }

# problem WHAT REMEDY: one thing that keeps this host from getting an agent.
problem() {
    problems=$((problems + 1))
    echo "install-agent: $1" >&2
    echo "    -> $2" >&2
}

# note WHAT REMEDY: one that does not.
note() {
    say "note: $1"
    echo "    -> $2"
}

refuse_if_any() {
    [ "$problems" = 0 ] && return
    echo "install-agent: nothing was changed" >&2
    exit 1
}

# step WORDS... -- COMMAND...: say what is done, and do it.
step() {
    words=""
    while [ "$1" != -- ]; do
        words="$words $1"
        shift
    done
    shift
    if $dry_run; then
        say "would$words"
    else
        say "$(echo "$words" | cut -c2-)"
        "$@"
    fi
}
