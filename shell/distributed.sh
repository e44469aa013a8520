# A command on several ranks. Sourced by the scripts that set MODEL_PATH, GPUS and `command`, the words after the interpreter that
# every rank runs, and that have gone to the repository's folder; their arguments follow. From the environment:
#   GPUS=0,1,2,3         the cards to use, one for each rank
#   MP_DEGREE=4          only to have that number checked
#   DEVICE=cpu NPROC=2   the same over gloo on a machine without GPUs
#   NNODES=2 MASTER=10.0.0.1:8090   several machines; run the script on each
#   LOG_DIR=outputs/...  launcher.log, and a workerlog.N for each rank of this machine
#   PYTHON=python        the interpreter that has the package
PYTHON=${PYTHON:-python}
DEVICE=${DEVICE:-gpu}
NNODES=${NNODES:-1}
LOG_DIR=${LOG_DIR:-outputs/logs/$(basename "$0" .sh)}

case $DEVICE in
gpu) cards=GPUS ;;
cpu)
    cards=NPROC
    # The launcher wants a card for each rank even over gloo; distributed_rank.sh hides them again.
    GPUS=$(seq -s , 1 "${NPROC:-2}")
    CUDA_VISIBLE_DEVICES=$GPUS
    PADDLE_DISTRI_BACKEND=gloo
    export CUDA_VISIBLE_DEVICES PADDLE_DISTRI_BACKEND
    set -- --device cpu "$@"
    ;;
*) stop "DEVICE=$DEVICE is unknown: it must be gpu or cpu" ;;
esac
for card in $(printf '%s\n' "$GPUS" | tr ',' ' '); do
    case ,${CUDA_VISIBLE_DEVICES:-$GPUS}, in
    *,"$card",*) ;;
    *) stop "GPUS=$GPUS, but CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES does not show card $card: change one of the two" ;;
    esac
done
ranks=$(($(printf '%s\n' "$GPUS" | tr ',' '\n' | grep -c . || :) * NNODES))
[ "$ranks" -gt 0 ] || stop "$cards and NNODES=$NNODES make no ranks: set GPUS=0,1 for two cards, or DEVICE=cpu NPROC=2"
[ "${MP_DEGREE:-$ranks}" -eq "$ranks" ] ||
    stop "MP_DEGREE=$MP_DEGREE, but $cards and NNODES make $ranks ranks: set MP_DEGREE=$ranks, or change $cards"
launch="--gpus $GPUS"
if [ "$NNODES" -gt 1 ]; then
    [ -n "${MASTER:-}" ] || stop "NNODES=$NNODES needs MASTER=host:port, the address of the first machine"
    launch="$launch --nnodes $NNODES --master $MASTER"
fi

say "$ranks ranks on $DEVICE, logs in $LOG_DIR" >&2
mkdir -p "$LOG_DIR"
rm -f "$LOG_DIR"/workerlog.*
# The launcher writes the whole environment into these, passwords included.
trap 'rm -f "$LOG_DIR"/envlog.* "$LOG_DIR"/backup_env.* "$LOG_DIR"/default.*.log' EXIT
# Ctrl-C, or a kill of this script, ends the ranks too: the launcher stops them when it is told to.
trap 'interrupted=yes; kill -TERM "$launcher" 2>/dev/null' INT TERM HUP
interrupted= launcher=
# The launcher sends all that its processes print into files; rank 0 finds this script's own output as its descriptor 0.
# shellcheck disable=SC2086
"$PYTHON" -m paddle.distributed.launch $launch --log_dir "$LOG_DIR" \
    sh shell/distributed_rank.sh "$PYTHON" $command "$@" 0<&1 >"$LOG_DIR/launcher.log" 2>&1 &
launcher=$!
status=0
wait "$launcher" || status=$?
if [ -n "$interrupted" ]; then
    wait "$launcher" || :
    stop "interrupted; all ranks of this machine have ended"
fi
[ "$status" -ne 0 ] || exit 0

# The launcher's log names the rank that failed first: "Container rank 1 status failed cmd [...] code -9 log ...".
# shellcheck disable=SC2046
set -- $(sed -n 's/^Container rank \([0-9]*\) status failed .* code \(-*[0-9]*\) log .*/\1 \2/p' "$LOG_DIR/launcher.log")
[ $# -eq 2 ] || stop "no rank could be started on $GPUS ($(tail -n 1 "$LOG_DIR/launcher.log")); without GPUs: DEVICE=cpu NPROC=2"
place="$LOG_DIR/workerlog.$1" rank="rank $1"
[ "$NNODES" -eq 1 ] || rank="$rank of this machine"
[ "$2" -ge 0 ] || stop "$rank was killed by signal ${2#-} (9 is what the system sends when memory runs out)"
error=$(grep -E '^(error|[A-Za-z_.]*(Error|Exception)):' "$place" | tail -n 1)
stop "$rank: ${error:-ended with status $2, see $place}"
