#!/usr/bin/env bash
# Installs all that the tests need into the active Python environment, a browser included, and runs them.
# Usage: bash tests/run.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt

find_chromium() {
    if [ -n "${CHROMIUM:-}" ] && [ -x "$CHROMIUM" ]; then
        echo "$CHROMIUM"
        return
    fi
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return
    done
    python - <<'PY'
from pathlib import Path
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    path = playwright.chromium.executable_path
    print(path if Path(path).is_file() else "")
PY
}

install_chromium() {
    echo "No Chromium found; installing one." >&2
    timeout 300 python -m playwright install chromium >&2 && return
    local sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo"
    command -v apt-get >/dev/null && $sudo apt-get update -qq >&2 && $sudo apt-get install -y -qq chromium >&2
}

CHROMIUM="$(find_chromium)"
if [ -z "$CHROMIUM" ]; then
    install_chromium || true
    CHROMIUM="$(find_chromium)"
fi
if [ -z "$CHROMIUM" ]; then
    echo "No Chromium could be found or installed; set CHROMIUM=/path/to/chromium." >&2
    exit 1
fi
export CHROMIUM

# Two processes: many tests wait for others most of their time. Who begins when is said in conftest.py.
exec python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder "$@"
