#!/bin/sh
# Installs this package, what it needs and its compiled operations into $PYTHON (default: the Python on the PATH), after
# build_paddle_env.sh. May be run again.
#   EXTRAS=test,host  extras of setup.py to install: without it PaddleNLP, whose API is then there too; EXTRAS= for none
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

PYTHON=$(find_python)
"$PYTHON" -c 'import paddle' 2>/dev/null || stop "Paddle is missing in $PYTHON; first: sh shell/build_paddle_env.sh"

say "installing the package and what it needs into $PYTHON; this takes minutes"
run_pip setuptools wheel
run_pip --no-build-isolation --editable ".${EXTRAS:+[$EXTRAS]}"

# What the compiled operations were built from, written down beside them: the sources and Paddle's version.
sources() {
    cat external_ops/setup.py external_ops/*/*.py external_ops/csrc/*.h external_ops/csrc/*/* 2>/dev/null | cksum
    "$PYTHON" -c 'import paddle; print(paddle.__version__)' 2>/dev/null
}
stamp=$("$PYTHON" -c 'import sys; print(sys.prefix)')/paddlemix_qwenvl_ops.built_from

build_operations() {
    mkdir -p external_ops/build
    (cd external_ops && "$PYTHON" setup.py install >build/install.log 2>&1)
}

if [ ! -f external_ops/setup.py ]; then
    say "no external_ops/setup.py: the plain Paddle path is used"
elif [ "$(sources)" = "$(cat "$stamp" 2>/dev/null)" ] && "$PYTHON" -c 'import paddlemix_qwenvl_ops' 2>/dev/null; then
    say "the compiled operations are there already"
elif ! command -v "${CXX:-g++}" >/dev/null 2>&1; then
    say "no C++ compiler (${CXX:-g++}): compiled operations are skipped, the slower plain Paddle path is used"
else
    say "building the compiled operations; this takes minutes (log: external_ops/build/install.log)"
    if ! build_operations; then
        tail -n 20 external_ops/build/install.log >&2
        stop "the compiled operations did not build (external_ops/build/install.log); without them: CXX=none sh $0"
    fi
    (sources >"$stamp") 2>/dev/null || say "$stamp cannot be written: the next run builds again"
    say "the compiled operations are built"
    sed -n '/^Built /p' external_ops/build/install.log # what they lack, if anything, and what to do
fi
"$PYTHON" -m paddlemix_qwenvl.cli doctor || stop "the set-up is not usable; see the lines above"
