#!/bin/sh
# Sets up .venv-quickstart in the repository and asks a question about an image. Arguments go to `paddlemix-qwenvl infer`.
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

make_venv .venv-quickstart
sh shell/build_paddle_env.sh
sh shell/build_env.sh
exec .venv-quickstart/bin/paddlemix-qwenvl infer "$@"
