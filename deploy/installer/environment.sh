# The agent's environment: one directory a release, and `current`, a link that is moved in one step when all is well.
# shellcheck shell=sh disable=SC2154 # variables of install-agent.sh

complete=.complete # marks a release that was installed whole

make_environment() {
    release=$(release_name)
    there=$home/releases/$release
    previous=$(readlink "$home/current" 2>/dev/null || true)
    previous=${previous##*/}
    remove_halves
    if [ -f "$there/$complete" ]; then
        say "release $release is here already"
        return
    fi
    step install release "$release" into "$there" with "$python" -- build "$there"
}

# Version and digest of what is installed, and for which Python: equal names are equal content.
release_name() {
    if [ -n "$wheelhouse" ]; then
        wheel=$(find "$wheelhouse" -maxdepth 1 -name 'phasewatt-*.whl')
        version=$(basename "$wheel" | cut -d- -f2)
        digest=$(sha256sum "$wheel" | cut -c1-8)
    else
        version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$here/../phasewatt/__init__.py")
        digest=$(cd "$here/.." && find setup.py phasewatt agent -name '*.py' -exec sha256sum {} + | sort | sha256sum | cut -c1-8)
    fi
    suffix=""
    [ -z "$torch" ] || suffix=-torch$(echo "$torch" | sha256sum | cut -c1-6)
    echo "$version-$digest-py$python_version$suffix"
}

# What an interrupted installation left.
remove_halves() {
    for each in "$home"/releases/*; do
        if [ -d "$each" ] && [ ! -f "$each/$complete" ]; then
            step remove "$each", which was left half finished -- rm -rf "$each"
        fi
    done
}

build() {
    half=$1
    trap 'rm -rf "$half"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir -p "$home/releases"
    options=""
    [ "$torch" != system ] || options=--system-site-packages
    # shellcheck disable=SC2086 # no word, or one
    "$python" -m venv $options "$half"
    add_packages "$half"
    "$half/bin/python" -c 'import agent.station' || { say "the agent does not start in its environment" >&2; exit 1; }
    check_built_torch "$half"
    mkdir -p "$half/share/doc/phasewatt"
    for page in install.md boards.md agent.md jetson.md; do
        [ ! -f "$here/../docs/$page" ] || cp "$here/../docs/$page" "$half/share/doc/phasewatt/"
    done
    touch "$half/$complete"
    trap - EXIT HUP INT TERM
}

add_packages() {
    set -- "$1/bin/python" -m pip install -q --disable-pip-version-check --no-cache-dir
    if [ -n "$wheelhouse" ]; then
        set -- "$@" --no-index --find-links "$wheelhouse" --constraint "$wheelhouse/constraints.txt"
        what="phasewatt[nvml] @ file://$(find "$wheelhouse" -maxdepth 1 -name 'phasewatt-*.whl')"
    else
        set -- "$@" --constraint "$here/../requirements.txt"
        what="phasewatt[nvml] @ file://$(cd "$here/.." && pwd)"
    fi
    case "$torch" in
        "" | system) ;;
        wheelhouse) "$@" "torch" transformers safetensors numpy ;;
        *) unpinned_torch "$1" ;;
    esac
    "$@" "$what"
}

# The platform's torch comes from the index that was named, and from no other; what it needs comes from wherever pip looks.
unpinned_torch() {
    "$1" -m pip install -q --disable-pip-version-check --no-cache-dir --index-url "$torch" --no-deps torch
    "$1" -m pip install -q --disable-pip-version-check --no-cache-dir --extra-index-url "$torch" torch transformers safetensors numpy
}

# A torch for another CUDA runs and does not see the GPU: such a release is not put in use.
check_built_torch() {
    [ -n "$torch" ] || return 0
    found=$("$1/bin/python" -c 'import torch; print((torch.version.cuda or "none").split(".")[0])' 2>/dev/null || echo broken)
    wanted=$(cuda_major)
    [ -z "$wanted" ] || [ "$found" = "$wanted" ] || {
        say "this torch is built for CUDA $found, and this platform has CUDA $wanted: nothing was put in use" >&2
        echo "    -> $(torch_remedy)" >&2
        exit 1
    }
}

use_release() {
    ln -sfn "releases/$1" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
}

# All but the release in use and the one before it.
remove_old_releases() {
    for each in "$home"/releases/*; do
        case "${each##*/}" in
            "$release" | "$previous") ;;
            *) [ ! -d "$each" ] || rm -rf "$each" ;;
        esac
    done
}
