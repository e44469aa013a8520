#!/bin/sh
# Installs this package, what it needs and its compiled operations into $PYTHON (default: the Python on the PATH), after
# build_paddle_env.sh. May be run again.
#   EXTRAS=test,host   extras of setup.py to install as well
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

PYTHON=$(find_python)
"$PYTHON" -c 'import paddle' 2>/dev/null || stop "Paddle is missing in $PYTHON; first: sh shell/build_paddle_env.sh"

say "installing the package and what it needs into $PYTHON; this takes minutes"
run_pip setuptools wheel
run_pip --no-build-isolation --editable ".${EXTRAS:+[$EXTRAS]}"

if [ ! -f external_ops/setup.py ]; then
    say "no external_ops/setup.py: the plain Paddle path is used"
elif ! command -v "${CXX:-g++}" >/dev/null 2>&1; then
    say "no C++ compiler (${CXX:-g++}): compiled operations are skipped, the slower plain Paddle path is used"
else
    say "building the compiled operations (log: external_ops/build.log)"
    if (cd external_ops && "$PYTHON" setup.py install >build.log 2>&1); then
        say "the compiled operations are built"
    else
        tail -n 20 external_ops/build.log >&2
        stop "the compiled operations did not build (external_ops/build.log); without them: CXX=none sh $0"
    fi
fi
"$PYTHON" -m paddlemix_qwenvl.cli doctor || stop "the set-up is not usable; see the lines above"
