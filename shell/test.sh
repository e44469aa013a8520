#!/bin/sh
# Sets up .venv-test in the repository and runs the tests in it. Arguments go to pytest.
#   CORE=yes  without PaddleNLP, with NumPy 2 and the newest Python that this machine has, in .venv-core
set -eu
cd "$(dirname "$0")/.."
if [ -n "${CORE:-}" ]; then EXTRAS=test; else EXTRAS=test,paddlenlp; fi
export EXTRAS
. shell/common.sh

if [ -n "${CORE:-}" ]; then
    pyenv=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions
    PYTHON=${PYTHON:-$(first_usable python3.13 "$pyenv"/3.13.*/bin/python python3.12 "$pyenv"/3.12.*/bin/python python3.11 python3)}
    make_venv .venv-core
else
    make_venv .venv-test
fi
sh shell/build_paddle_env.sh
sh shell/build_env.sh
run_pip --no-deps dashscope==2.0.2 # ships Qwen's vocabulary, which is read; its code is not
say "running the tests"
OMP_NUM_THREADS=1 exec "$PYTHON" -m pytest -n "$(getconf _NPROCESSORS_ONLN)" "$@"
