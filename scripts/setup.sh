#!/bin/sh
# Makes .venv and installs Covey into it, editable and with the pinned versions.
#   sh scripts/setup.sh core    what a user gets
#   sh scripts/setup.sh dev     that and the development tools
# Called by make; PYTHON names the interpreter. Exits 2 when something is missing that only the user can install.
set -eu

tier=${1:?core or dev}
python=${PYTHON:-python3}
here=$(pwd)
log=.venv/setup.log

say() { printf '==> %s\n' "$*"; }
fail() { printf 'covey: %s\n' "$1" >&2; exit 2; }

command -v "$python" >/dev/null 2>&1 || fail "no $python on PATH; Covey needs Python 3.11 or newer"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" -V 2>&1) is too old; Covey needs 3.11 or newer (PYTHON=python3.12 make ...)"

usable() { [ "$(cat .venv/.made-in 2>/dev/null)" = "$here" ] && .venv/bin/python -m pip --version >/dev/null 2>&1; }

# Whether a virtual environment can be made is known only by making one: Debian ships venv without ensurepip, and a
# failed attempt leaves half a directory behind.
make_venv() { rm -rf .venv; "$python" -m venv .venv >/dev/null 2>&1 && .venv/bin/python -m pip --version >/dev/null 2>&1; }

if ! usable; then
    say "making .venv with $("$python" -V)"
    if ! make_venv; then
        rm -rf .venv
        sh scripts/debian_install.sh python3-venv
        make_venv || { rm -rf .venv; fail "$python -m venv .venv still fails; run it to see why"; }
    fi
    printf '%s\n' "$here" >.venv/.made-in
fi

# The build backend comes first and pinned; with build isolation pip would fetch an unpinned one for every install.
install() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --no-input --progress-bar off \
        --only-binary :all: -c constraints.txt "$@" >>"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        say "pip failed; everything it said is in $log" >&2
        exit 1
    }
}

rm -f .venv/.core-installed .venv/.dev-installed "$log"
if [ "$tier" = dev ]; then
    say 'installing Covey, its dependencies and the development tools (once, about 130 MB)'
    target='.[dev]'
else
    say 'installing Covey and its dependencies (once, about 15 MB)'
    target=.
fi
install hatchling
install --no-build-isolation -e "$target"

[ "$tier" = dev ] && touch .venv/.dev-installed
touch .venv/.core-installed
say 'ready'
