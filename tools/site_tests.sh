#!/usr/bin/env bash
# Open the built pages in a headless Chromium: tools/site_tests.sh PYTHON JOBS. Without one: an error in CI, a remark elsewhere.
set -euo pipefail
python=$1
jobs=$2

if [ -z "${CHROMIUM:-}" ]; then
    for name in chromium chromium-browser google-chrome "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        if command -v "$name" > /dev/null; then CHROMIUM=$(command -v "$name"); break; fi
    done
fi
if [ -n "${CHROMIUM:-}" ]; then
    echo "Opening the pages in $CHROMIUM"
    export CHROMIUM
    exec "$python" -m pytest -n "$jobs" -m site tests/site/test_site*.py
elif [ "${CI:-}" = true ]; then
    echo "make: CI needs Chromium to open the pages, and none was found" >&2
    exit 1
else
    echo "No Chromium was found, so the pages were not opened in one (CHROMIUM=/path/to/it names one)"
fi
