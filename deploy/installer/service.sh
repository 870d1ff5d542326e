# The unit, its start, and what becomes of a release that does not start; removal.
# shellcheck shell=sh disable=SC2154 # variables of install-agent.sh

make_service() {
    step put release "$release" in use -- put_in_use
    $service || [ -n "$root" ] || return 0
    step write "$units/$unit" -- write_unit
}

put_in_use() {
    use_release "$release"
    mkdir -p "$(dirname "$program")"
    ln -sfn /opt/phasewatt/current/bin/phasewatt-agent "$program"
}

write_unit() {
    mkdir -p "$units/$unit.d"
    cp "$here/systemd/$unit" "$units/$unit.new"
    chmod 644 "$units/$unit.new"
    mv "$units/$unit.new" "$units/$unit"
    write_credentials >"$units/$unit.d/credentials.conf"
}

write_credentials() {
    echo "# Written by install-agent.sh: what the service is given of root's files."
    echo "[Service]"
    for file in "$secrets"/*; do
        [ ! -f "$file" ] || echo "LoadCredential=${file##*/}:/etc/phasewatt/credentials/${file##*/}"
    done
}

start_service() {
    if ! $service; then
        [ -n "$root" ] || say "start it, and start it again when it ends: phasewatt-agent serve --state-dir $state"
        $dry_run || remove_old_releases
        return 0
    fi
    step enable and start "$unit" -- start_or_go_back
}

start_or_go_back() {
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    if systemctl restart "$unit"; then
        remove_old_releases
        return
    fi
    journalctl --unit "$unit" --lines 5 --no-pager --output cat >&2 || true
    if [ -n "$previous" ] && [ "$previous" != "$release" ] && [ -d "$home/releases/$previous" ]; then
        use_release "$previous"
        rm -rf "$home/releases/$release"
        systemctl restart "$unit" && say "release $release does not start; $previous is in use again" >&2
    else
        systemctl disable --quiet --now "$unit"
        say "the agent does not start; its service is switched off" >&2
    fi
    echo "    -> journalctl --unit $unit" >&2
    exit 1
}

show_doctor() {
    $dry_run && return
    [ -z "$root" ] || return 0
    say "what this host can measure:"
    runuser -u "$user" -- "$program" doctor --state-dir "$state" || true
}

remove_service() {
    $service || return 0
    [ -f "$units/$unit" ] || return 0
    step stop and disable "$unit" -- systemctl disable --quiet --now "$unit"
}

remove_files() {
    for path in "$units/$unit" "$units/$unit.d" "$program" "$home"; do
        if [ -e "$path" ] || [ -h "$path" ]; then step remove "$path" -- rm -rf "$path"; fi
    done
    $service && [ -d /run/systemd/system ] && step tell systemd -- systemctl daemon-reload
    if ! $purge; then
        [ ! -d "$state" ] || say "$state and $root/etc/phasewatt stay; --purge removes them"
        return 0
    fi
    for path in "$state" "$root/etc/phasewatt"; do
        [ ! -e "$path" ] || step remove "$path" -- rm -rf "$path"
    done
    if [ -z "$root" ] && id "$user" >/dev/null 2>&1; then
        step remove user "$user" -- userdel "$user"
    fi
}
