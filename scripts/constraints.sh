#!/bin/sh
# Rewrites constraints.txt with the newest versions that pyproject.toml admits, from wheels, in a throwaway environment.
set -eu

venv=build/constraints-venv
rm -rf "$venv" && mkdir -p build
"${PYTHON:-python3}" -m venv "$venv"
printf '==> resolving\n'
"$venv/bin/python" -m pip install -q --progress-bar off --only-binary :all: hatchling
"$venv/bin/python" -m pip install -q --progress-bar off --only-binary :all: --no-build-isolation '.[dev,aws,azure,gcp,kubernetes,postgres,highs,upnp,uvloop]'
{
    printf '# What the tests run with: the core, every extra and the development tools, all from wheels. Names and versions only.\n'
    printf '# Made by `make constraints`.\n'
    # Local paths and addresses never reach the file: only name==version lines do. atheris: see pyproject.toml.
    "$venv/bin/python" -m pip list --format=freeze --exclude covey --exclude atheris --exclude pip --exclude setuptools | grep -E '^[A-Za-z0-9._-]+==[^ ]+$'
} >build/constraints.txt
mv build/constraints.txt constraints.txt
rm -rf "$venv"
printf '==> constraints.txt now pins %s packages\n' "$(grep -c == constraints.txt)"
