#!/usr/bin/env bash
# Make the environment that the lock file describes, or bring it up to date: tools/make_venv.sh FOLDER
set -euo pipefail
venv=$1

works() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

if [ ! -x "$venv/bin/python" ]; then
    found=
    for python in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if works "$python"; then found=$python; break; fi
    done
    if [ -z "$found" ]; then
        echo "make: no Python 3.11, 3.12 or 3.13 was found; name one: make PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
    echo "Making the environment in $venv with $("$found" --version) (some minutes the first time)"
    "$found" -m venv "$venv"
fi
# The lock's own uv, with its hash; then uv installs the rest, which is several times faster than pip.
awk '/^uv==/ {inside = 1} inside {print; if ($0 !~ /\\$/) exit}' requirements.txt > "$venv/uv.txt"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$venv/uv.txt"
# Compiled once, or each of the many processes of a build does it again where Python may not write.
quiet=-q
if [ -t 1 ]; then quiet=; fi
"$venv/bin/uv" pip sync $quiet --compile-bytecode --require-hashes --python "$venv/bin/python" requirements.txt
# The sync removes what the lock does not name, so gaplib comes last.
"$venv/bin/uv" pip install -q --no-deps --no-build-isolation --offline --python "$venv/bin/python" -e .
# A kernel with a name of its own: `python3` may be another environment's.
"$venv/bin/python" -m ipykernel install --prefix "$venv" --name gaplib-book --display-name "The book" > "$venv/kernel.txt" 2>&1
touch "$venv/.stamp"
echo "The environment in $venv is up to date."
