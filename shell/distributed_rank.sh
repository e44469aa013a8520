#!/bin/sh
# One rank of distributed_infer.sh: undoes what the launcher does to its processes, then runs the command it is given.
if [ "${PADDLE_DISTRI_BACKEND:-}" = gloo ]; then
    export CUDA_VISIBLE_DEVICES=
fi
# The launcher hides the proxy, which the model or the pictures may come through.
[ -z "${http_proxy_original:-}" ] || export http_proxy="$http_proxy_original"
[ -z "${https_proxy_original:-}" ] || export https_proxy="$https_proxy_original"
[ "$PADDLE_TRAINER_ID" -ne 0 ] || exec >&0
exec "$@" </dev/null
