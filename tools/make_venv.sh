#!/usr/bin/env bash
# Make the environment that the lock file describes, or bring it up to date: tools/make_venv.sh FOLDER
set -euo pipefail
venv=$1
kernel=$venv/share/jupyter/kernels/gaplib-book/kernel.json

# A moved environment's programs name the folder that they were made in; one that lost its Python is no better.
moved() {
    [ -f "$venv/place.txt" ] || return 1
    [ ! -x "$venv/bin/python" ] || [ "$(cat "$venv/place.txt")" != "$(cd "$venv" && pwd -P)" ]
}

# With --check only say whether the environment that is there has to be made again, whatever its date.
if [ "${2:-}" = --check ]; then
    if moved || { [ -f "$venv/place.txt" ] && [ ! -f "$kernel" ]; }; then echo again; fi
    exit
fi

# How an index is reached stays the reader's. What is installed, where and by which Python is said here: their settings
# for that are for other work.
for name in ${!PYTHON@}; do
    case $name in PYTHON | PYTHONDONTWRITEBYTECODE | PYTHONPYCACHEPREFIX) ;; *) unset "$name" ;; esac
done
unset PIP_PYTHON PIP_PLATFORM PIP_PYTHON_VERSION PIP_IMPLEMENTATION PIP_ABI PIP_CONSTRAINT PIP_NO_BINARY PIP_REQUIREMENT \
    PIP_DEST PIP_EDITABLE PIP_LOG UV_CONSTRAINT UV_OVERRIDE UV_BUILD_CONSTRAINT UV_REQUIRE_HASHES UV_SYSTEM_PYTHON \
    UV_TORCH_BACKEND UV_WORKING_DIR UV_PROJECT

works() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

if moved; then
    echo "The environment in $venv was made in another folder, or its Python is gone: it is made anew"
    rm -rf "$venv"
fi
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
[ -f "$venv/place.txt" ] || (cd "$venv" && pwd -P) > "$venv/place.txt"
# The lock's own uv, with its hash; then uv installs the rest (itself too), which is several times faster than pip.
# Downloaded, not installed: `pip install` puts things where the reader's settings say (user, target, prefix, root).
awk '/^uv==/ {inside = 1} inside {print; if ($0 !~ /\\$/) exit}' requirements.txt > "$venv/uv.txt"
uv=$venv/bin/uv
locked=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' "$venv/uv.txt")
case $("$uv" --version 2>/dev/null || true) in "uv $locked" | "uv $locked "*) ;; *)
    wheel=$venv/uv-wheel
    rm -rf "$wheel"
    "$venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        -d "$wheel" -r "$venv/uv.txt"
    "$venv/bin/python" -m zipfile -e "$wheel"/uv-*.whl "$wheel"
    uv=$(echo "$wheel"/uv-*.data/scripts/uv)
    chmod +x "$uv" ;;
esac
# Compiled once, or each of the many processes of a build does it again where Python may not write.
quiet=-q
if [ -t 1 ]; then quiet=; fi
"$uv" pip sync $quiet --compile-bytecode --require-hashes --python "$venv/bin/python" requirements.txt
# The sync removes what the lock does not name, so gaplib comes last.
"$uv" pip install -q --no-deps --no-build-isolation --offline --python "$venv/bin/python" -e .
# A kernel with a name of its own: `python3` may be another environment's.
"$venv/bin/python" -m ipykernel install --prefix "$venv" --name gaplib-book --display-name "The book" > "$venv/kernel.txt" 2>&1
touch "$venv/.stamp"
echo "The environment in $venv is up to date."
