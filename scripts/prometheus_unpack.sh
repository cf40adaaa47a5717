#!/bin/sh
# Unpacks Debian's Prometheus for the tests of the fleet's metrics: no root, nothing installed, no service started.
# Done once, in a few seconds; 100 MB. The last line printed is the folder with `prometheus` and `promtool`.
#   sh scripts/prometheus_unpack.sh          unpacks;  exits 2 and says why where it cannot
#   sh scripts/prometheus_unpack.sh --path   only prints the folder; exits 1 if there is nothing
set -eu

target=${COVEY_PROMETHEUS:-${XDG_CACHE_HOME:-$HOME/.cache}/covey/prometheus}

ready() { [ -x "$target/prometheus" ] && [ -x "$target/promtool" ]; }
refuse() {
    printf 'covey: %s\n' "$*" >&2
    exit 2
}

if [ "${1:-}" = --path ]; then
    printf '%s\n' "$target"
    ready
    exit
fi
if ! ready; then
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || refuse "this is not Debian: put prometheus and promtool in $target"
    mkdir -p "$(dirname "$target")"
    work=$(mktemp -d "$target.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM
    # As root apt would download as another user, who may not write here.
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download prometheus >log 2>&1) || {
        cat "$work/log" >&2
        refuse 'Prometheus cannot be downloaded; apt-get update first?'
    }
    dpkg -x "$work"/prometheus_*.deb "$work/root"
    mkdir -p "$target"
    mv "$work/root/usr/bin/prometheus" "$work/root/usr/bin/promtool" "$target/"
fi
printf '%s\n' "$target"
