#!/bin/sh
# Sets up .venv-quickstart in the repository and asks a question about an image. Arguments, if any, go to
# `paddlemix-qwenvl infer` in place of that question.
#   EXTRAS=paddlenlp  PaddleNLP's API, too, which the commands do not need
set -eu
cd "$(dirname "$0")/.."
export EXTRAS="${EXTRAS-}"
. shell/common.sh

make_venv .venv-quickstart
sh shell/build_paddle_env.sh
sh shell/build_env.sh

[ $# -gt 0 ] || set -- --image_file examples/images/shapes.png --question "Locate all shapes." --draw outputs/quickstart.png
say "paddlemix-qwenvl infer $*"
exec .venv-quickstart/bin/paddlemix-qwenvl infer "$@"
