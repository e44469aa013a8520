#!/bin/sh
# Tests the server's page in a real browser, in the .venv-test that shell/test.sh has set up. Arguments go to pytest.
#   QWENVL_CHROMIUM=/path/to/chromium  the browser; without it Debian's, which is installed by apt-get where it is missing
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

PYTHON=$PWD/.venv-test/bin/python
usable "$PYTHON" || stop "there is no .venv-test yet; set it up: sh shell/test.sh"
if [ -z "${QWENVL_CHROMIUM:-}" ]; then
    if ! command -v chromium >/dev/null 2>&1; then
        say "installing Chromium by apt-get"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk; } >/dev/null ||
            stop "apt-get could not install chromium (its own words are above); install it, or name one: QWENVL_CHROMIUM=/path/to/chromium sh $0"
    fi
    QWENVL_CHROMIUM=$(command -v chromium)
fi
export QWENVL_CHROMIUM
run_pip "playwright>=1.49,<2" "openai>=1.60"
say "running the tests"
OMP_NUM_THREADS=1 exec "$PYTHON" -m pytest tests/server/browser "$@"
