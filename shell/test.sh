#!/bin/sh
# Sets up .venv-test in the repository and runs the tests in it. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

make_venv .venv-test
sh shell/build_paddle_env.sh
EXTRAS=test sh shell/build_env.sh
run_pip --no-deps dashscope==2.0.2 # ships Qwen's vocabulary, which is read; its code is not
say "running the tests"
OMP_NUM_THREADS=1 exec "$PYTHON" -m pytest -n "$(getconf _NPROCESSORS_ONLN)" "$@"
