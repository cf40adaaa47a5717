#!/bin/sh
# What the tests on real networks need from Debian (PROTOCOL 40): installs it where it may, and otherwise prints the one
# line to run and exits 2. Without miniupnpd one kind of box is not tested; only root is asked for it.
set -eu

[ -e /etc/debian_version ] || exit 0 # elsewhere these tests skip themselves and say what they miss

PATH=$PATH:/usr/sbin:/sbin
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }

need ip iproute2
need nft nftables
[ "$(id -u)" != 0 ] || need miniupnpd miniupnpd-nftables

# shellcheck disable=SC2086 # a list of words
[ -z "$missing" ] || sh scripts/debian_install.sh $missing

# Optional: without it the tests of Prometheus signals and metrics are skipped.
sh scripts/prometheus_unpack.sh >/dev/null 2>&1 || echo 'covey: no Prometheus for the tests: sh scripts/prometheus_unpack.sh says why'
