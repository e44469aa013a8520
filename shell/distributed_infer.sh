# Tensor-parallel inference. Sourced by distributed_infer_3B.sh, _7B.sh and _72B.sh, which set MODEL_PATH and GPUS where
# the user has not. From the environment:
#   MODEL_PATH, IMAGE_FILE (default: the picture in examples/images; empty: none), QUESTION
#   GPUS, DEVICE, NPROC, NNODES, ... as distributed.sh lists them
# Arguments are passed on to `paddlemix-qwenvl infer` (--json, --benchmark, --max_new_tokens 64, --dry_run, ...).
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

PYTHON=${PYTHON:-python}
command=examples/qwen2_5_vl/distributed_infer.py

case " $* " in
*" --image_file"[\ =]* | *" --dry_run "*) ;;
*) IMAGE_FILE=${IMAGE_FILE-examples/images/shapes.png} ;;
esac
[ -z "${IMAGE_FILE:-}" ] || set -- --image_file "$IMAGE_FILE" "$@"
[ -z "${QUESTION:-}" ] || set -- --question "$QUESTION" "$@"
set -- --model_path "$MODEL_PATH" "$@"
case " $* " in
*" --dry_run "*) exec "$PYTHON" $command "$@" ;;
esac

. shell/distributed.sh
