#!/bin/sh
# Installs Debian packages where it may, and otherwise prints the one line to run and exits 2.
#   sh scripts/debian_install.sh PACKAGE...
set -eu

line="apt-get update && apt-get install -y --no-install-recommends $*"

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    printf '%s\n' "$line"
    exit 2
fi
printf '==> installing %s: %s\n' "$*" "$line"
mkdir -p build
if ! DEBIAN_FRONTEND=noninteractive sh -c "$line" >build/apt.log 2>&1 </dev/null; then
    tail -n 20 build/apt.log >&2
    printf 'covey: that failed; run it by hand:\n%s\n' "$line" >&2
    exit 2
fi
