# Whose the agent is, what it knows, and its secrets.
# shellcheck shell=sh disable=SC2154 # variables of install-agent.sh

make_user() {
    [ -z "$root" ] || return 0
    if ! id "$user" >/dev/null 2>&1; then
        step add system user "$user" -- useradd --system --user-group --home-dir "$state" --no-create-home --shell /usr/sbin/nologin "$user"
    fi
    # video and render open a Jetson's GPU; jtop is the socket of jetson-stats.
    for group in video render jtop; do
        if getent group "$group" >/dev/null 2>&1 && ! id -nG "$user" 2>/dev/null | grep -qw "$group"; then
            step add "$user" to group "$group" -- usermod --append --groups "$group" "$user"
        fi
    done
}

make_settings() {
    if [ ! -d "$state" ]; then step make "$state" -- mkdir -p "$state"; fi
    [ -z "$config" ] || step take settings from "$config" -- cp "$config" "$settings"
    [ -z "$bundle" ] || step join by "$bundle" -- join_by_bundle
    [ -z "$broker" ] || step write "$settings" for broker "$broker" -- write_settings
    if [ -n "$config$bundle$broker" ]; then
        :
    elif [ -f "$settings" ] || [ -f "$state/joined.toml" ]; then
        say "what is set in $state stays as it is"
    else
        note "no broker is set: records wait in the outbox" "run again with --bundle, --config or --broker"
    fi
    step keep secrets for root alone -- take_secrets
    [ -n "$root" ] || step give "$state" to "$user" -- own_state
}

write_settings() {
    { [ -z "$device" ] || echo "device = \"$device\""; echo "[broker]"; echo "address = \"$broker\""; } >"$settings"
}

join_by_bundle() {
    if ! "$home/releases/$release/bin/phasewatt-agent" join "$bundle" --state-dir "$state"; then
        say "this board cannot join by $bundle: nothing was put in use" >&2
        exit 1
    fi
    # In an image that is being built, the files will have other paths than now.
    [ -z "$root" ] || sed -i "s|\"[^\"]*\(/var/lib/phasewatt-agent/identity/\)|\"\1|" "$state/joined.toml"
}

own_state() {
    chown -R "$user:$user" "$state"
    chmod 750 "$state"
    [ ! -f "$settings" ] || chmod 640 "$settings"
}

# Files that the settings name go where root alone reads them; the service gets them as credentials.
take_secrets() {
    [ -f "$settings" ] || return 0
    for key in ca_file cert_file key_file password_file; do
        file=$(sed -n "s/^ *$key *= *\"\\([^\"]*\\)\".*/\\1/p" "$settings" | head -n 1)
        case "$file" in "" | /run/credentials/*) continue ;; esac
        case "$file" in /*) ;; *) file=$(dirname "${config:-$settings}")/$file ;; esac
        mkdir -p "$secrets"
        chmod 700 "$root/etc/phasewatt" "$secrets"
        (umask 077 && cp "$file" "$secrets/$key")
        sed -i "s|^\\( *$key *= *\\)\"[^\"]*\"|\\1\"/run/credentials/$unit/$key\"|" "$settings"
        case "$file" in "$state"/*) rm -f "$file" ;; esac
    done
}
