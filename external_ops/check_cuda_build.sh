#!/bin/sh
# Compiles what a Paddle with CUDA would be given, on a machine that needs neither a GPU nor such a Paddle: every kernel with
# nvcc for sm_75, sm_80 and sm_90a, and the Paddle side with PADDLE_WITH_CUDA against the headers of NVIDIA's packages.
#   ARCHS="80"             other architectures
#   KERNELS_ONLY=yes       without the Paddle side
#   PYTHON=python3         a Python with its headers, Paddle of any kind and pip
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
CXX=${CXX:-g++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for arch in ${ARCHS:-75 80 90a}; do
    for source in csrc/cuda/*.cu; do
        echo "nvcc sm_$arch $source"
        nvcc -O3 -std=c++17 -Werror=all-warnings -Xcompiler=-fPIC,-Wall -ccbin "$CXX" \
            "-gencode=arch=compute_$arch,code=sm_$arch" -c "$source" -o "$work/kernel.o"
    done
done
[ -z "${KERNELS_ONLY:-}" ] || exit 0

"$PYTHON" -m pip install -qq --disable-pip-version-check --no-deps --target "$work/packages" \
    nvidia-cuda-runtime==13.0.* nvidia-cuda-crt==13.0.* nvidia-cuda-cccl==13.0.* nvidia-nvtx==13.0.*
cuda=$work/packages/nvidia/cu13/include
paddle=$("$PYTHON" -c 'import os, importlib.util as u; print(os.path.dirname(u.find_spec("paddle").origin))')/include
python=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
for source in csrc/bind/*.cc; do
    echo "$CXX PADDLE_WITH_CUDA $source"
    "$CXX" -std=c++17 -w -fsyntax-only -DPADDLE_WITH_CUDA -DPADDLE_WITH_CUSTOM_KERNEL -DQWENVL_PYTHON "-I$python" "-I$paddle" "-I$paddle/third_party" \
        "-I$paddle/paddle/phi/api/include/compat" "-I$cuda" "-I$cuda/cccl" "$source"
done
echo "all of it compiles"
