#!/bin/sh
# Installs the PaddlePaddle that fits this machine into $PYTHON (default: the Python on the PATH). May be run again.
#   PADDLE_CUDA=cpu|cu118|cu126|cu129|cu130  install this one, whatever the machine has
#   PADDLE_INDEX=URL                         where the GPU builds are; the name above is appended
set -eu
cd "$(dirname "$0")/.."
. shell/common.sh

index=${PADDLE_INDEX:-https://www.paddlepaddle.org.cn/packages/stable}
version=$(sed -n 's/^paddlepaddle==//p' constraints.txt)

# The driver's CUDA version, as "12.4"; nothing when no GPU answers.
driver_cuda() {
    command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU ' || return 0
    nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\.[0-9]*\).*/\1/p' | head -n 1
}

toolkit_cuda() {
    command -v nvcc >/dev/null 2>&1 || return 0
    nvcc --version | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1
}

# build_for CUDA: Paddle's newest build that this CUDA version can run. Minor versions of one major are compatible.
build_for() {
    case $1 in
        11.*) echo cu118 ;;
        12.9 | 12.[1-9][0-9]) echo cu129 ;;
        12.*) echo cu126 ;;
        1[3-9].*) echo cu130 ;;
        *) stop "CUDA $1 is older than any Paddle $version build; update the NVIDIA driver, or PADDLE_CUDA=cpu" ;;
    esac
}

detect() {
    driver=$(driver_cuda)
    toolkit=$(toolkit_cuda)
    if [ -z "$driver" ]; then
        say "no GPU answers to nvidia-smi${toolkit:+ (nvcc $toolkit is there, but needs one)}: Paddle for CPU" >&2
        echo cpu
        return
    fi
    build=$(build_for "$driver")
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -n | head -n 1)
    case $build/$capability in
        cu130/[1-6].* | cu130/7.[0-4])
            say "the GPU's compute capability is $capability, which CUDA 13 has dropped" >&2
            build=cu126
            ;;
    esac
    say "the driver speaks CUDA $driver, nvcc is ${toolkit:-missing}: Paddle $build" >&2
    echo "$build"
}

PYTHON=$(find_python)
build=${PADDLE_CUDA:-$(detect)}
case $build in
    cpu) package=paddlepaddle other=paddlepaddle-gpu ;;
    cu[0-9]*) package=paddlepaddle-gpu other=paddlepaddle ;;
    *) stop "PADDLE_CUDA=$build is none of cpu, cu118, cu126, cu129, cu130" ;;
esac

if "$PYTHON" -m pip show --quiet "$other" >/dev/null 2>&1; then
    stop "$other is installed in $PYTHON and would mix with $package; first: $PYTHON -m pip uninstall $other"
fi
say "installing $package==$version ($build) into $PYTHON; this takes minutes"
if [ "$build" = cpu ]; then
    run_pip "$package==$version"
else
    run_pip "$package==$version" --extra-index-url "$index/$build/"
fi
"$PYTHON" -c 'import paddle; print("Paddle", paddle.__version__, "runs on", paddle.device.get_device())' \
    2>/dev/null || stop "$package is installed but does not import; see: $PYTHON -c 'import paddle'"
