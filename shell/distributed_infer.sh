# Tensor-parallel inference. Sourced by distributed_infer_3B.sh, _7B.sh and _72B.sh, which set MODEL_PATH and GPUS where
# the user has not. From the environment:
#   GPUS=0,1,2,3         the cards to use; mp_degree is their number
#   MP_DEGREE=4          only to have that number checked
#   DEVICE=cpu NPROC=2   the same over gloo on a machine without GPUs
#   MODEL_PATH, IMAGE_FILE, QUESTION
#   NNODES=2 MASTER=10.0.0.1:8090   several machines; run the script on each
#   LOG_DIR=outputs/...  one log a rank
#   PYTHON=python        the interpreter that has the package
# Arguments are passed on to `paddlemix-qwenvl infer` (--json, --benchmark, --max_new_tokens 64, ...).
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

PYTHON=${PYTHON:-python}
DEVICE=${DEVICE:-gpu}
NNODES=${NNODES:-1}
LOG_DIR=${LOG_DIR:-outputs/logs/$(basename "$0" .sh)}

if [ "$DEVICE" = cpu ]; then
    NPROC=${NPROC:-2}
    set -- --device cpu "$@"
    launch="--nproc_per_node $NPROC --backend gloo"
else
    NPROC=$(printf '%s\n' "$GPUS" | tr ',' '\n' | grep -c .)
    launch="--gpus $GPUS"
fi
ranks=$((NPROC * NNODES))
[ "${MP_DEGREE:-$ranks}" -eq "$ranks" ] ||
    stop "MP_DEGREE=$MP_DEGREE but $ranks processes would be started: set MP_DEGREE=$ranks, or name as many cards in GPUS (NPROC with DEVICE=cpu)"
if [ "$NNODES" -gt 1 ]; then
    [ -n "${MASTER:-}" ] || stop "NNODES=$NNODES needs MASTER=host:port, the address of the first machine"
    launch="$launch --nnodes $NNODES --master $MASTER"
fi
[ -z "${IMAGE_FILE:-}" ] || set -- --image_file "$IMAGE_FILE" "$@"
[ -z "${QUESTION:-}" ] || set -- --question "$QUESTION" "$@"

say "$ranks ranks on $DEVICE, logs in $LOG_DIR" >&2
mkdir -p "$LOG_DIR"
# A failing rank ends them all; its own error is in its log, which is shown below.
status=0
# shellcheck disable=SC2086
"$PYTHON" -m paddle.distributed.launch $launch --log_dir "$LOG_DIR" \
    examples/qwen2_5_vl/distributed_infer.py --model_path "$MODEL_PATH" --mp_degree "$ranks" "$@" || status=$?
if [ "$status" -ne 0 ]; then
    for log in "$LOG_DIR"/workerlog.*; do
        grep -E '^(error:|[A-Za-z_.]*(Error|Exception)\b)' "$log" | tail -n 1 | sed "s|^|$(basename "$log"): |" >&2
    done
fi
exit "$status"
