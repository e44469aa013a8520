// Layer norm with the residual added in the same pass; Paddle has the root-mean-square norm.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int MOST_THREADS = 1024;
constexpr int TOGETHER = 4;  // rows of a block whose warps have one each

template <bool WIDE>
__device__ inline float sum_of(float own) {
  float all = own;
  if constexpr (WIDE)
    scan(own, all);
  else
    for (int step = WARP / 2; step > 0; step /= 2) all += __shfl_xor_sync(FULL, all, step);
  return all;
}

// A block normalises a row, or, if a row is not WIDE, every warp one; a thread keeps K packs of N numbers of it.
template <class T, int N, int K, bool WIDE>
__global__ void __launch_bounds__(WIDE ? MOST_THREADS : TOGETHER * WARP, WIDE ? 1 : 3)
    layer_norm(const T* x, const T* residual, const T* weight, const T* bias, float epsilon, int64_t rows, int size,
               T* total, T* y) {
  const int threads = WIDE ? blockDim.x : WARP;
  const int64_t number = (int64_t)blockIdx.x * (blockDim.x / threads) + threadIdx.x / threads, row = number * size;
  if (number >= rows) return;
  const int first = threadIdx.x % threads * N, step = threads * N;
  Pack<T, N> kept[K], added[K];
#pragma unroll
  for (int k = 0; k < K; ++k)  // all reading before all writing, which might be to the same place for all the compiler knows
    if (first + k * step < size) {
      kept[k] = load<T, N>(x + row + first + k * step);
      if (residual) added[k] = load<T, N>(residual + row + first + k * step);
    }
  float own = 0;
#pragma unroll
  for (int k = 0; k < K; ++k)
    if (first + k * step < size) {
      if (residual) {
#pragma unroll
        for (int j = 0; j < N; ++j) kept[k].at[j] = narrow<T>(widen(kept[k].at[j]) + widen(added[k].at[j]));
        store(total + row + first + k * step, kept[k]);
      }
#pragma unroll
      for (int j = 0; j < N; ++j) own += widen(kept[k].at[j]);
    }
  const float mean = sum_of<WIDE>(own) / size;
  own = 0;
#pragma unroll
  for (int k = 0; k < K; ++k)
    if (first + k * step < size) {
#pragma unroll
      for (int j = 0; j < N; ++j) own += (widen(kept[k].at[j]) - mean) * (widen(kept[k].at[j]) - mean);
    }
  const float inverse = rsqrtf(sum_of<WIDE>(own) / size + epsilon);
#pragma unroll
  for (int k = 0; k < K; ++k)
    if (first + k * step < size) {
      const Pack<T, N> scale = load<T, N>(weight + first + k * step), shift = load<T, N>(bias + first + k * step);
      Pack<T, N> out;
#pragma unroll
      for (int j = 0; j < N; ++j)
        out.at[j] = narrow<T>((widen(kept[k].at[j]) - mean) * inverse * widen(scale.at[j]) + widen(shift.at[j]));
      store(y + row + first + k * step, out);
    }
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int qwenvl_cuda_layer_norm(const void* x, const void* residual, const void* weight, const void* bias,
                           QwenvlDtype dtype, float epsilon, int64_t rows, int64_t size, void* total, void* y,
                           void* stream) {
  if (size <= 0 || size > QWENVL_LARGEST_CUDA_ROW || rows > INT32_MAX) return cudaErrorInvalidValue;
  return with_type(dtype, [&](auto zero) {
    typedef decltype(zero) T;
    constexpr int N = 16 / sizeof(T);
    auto run = [&](auto kernel, int64_t blocks, int threads) {
      return launch(kernel, dim3((unsigned)blocks), threads, stream, (const T*)x, (const T*)residual, (const T*)weight,
                    (const T*)bias, epsilon, rows, (int)size, (T*)total, (T*)y);
    };
    auto threads = [&](int each) { return threads_for((size + each - 1) / each, MOST_THREADS); };
    if (!packs<T>(size, {x, residual, weight, bias, total, y})) return run(layer_norm<T, 1, 16, true>, rows, threads(16));
    if (size <= WARP * N * 8) return run(layer_norm<T, N, 8, false>, (rows + TOGETHER - 1) / TOGETHER, TOGETHER * WARP);
    return run(layer_norm<T, N, 4, true>, rows, threads(N * 4));
  });
}
