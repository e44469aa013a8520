// Layer norm with the residual added in the same pass; Paddle has the root-mean-square norm.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int MOST_THREADS = 1024;

// A block normalises a row, of which a thread keeps K packs of N numbers.
template <class T, int N, int K>
__global__ void __launch_bounds__(MOST_THREADS) layer_norm(const T* x, const T* residual, const T* weight,
                                                           const T* bias, float epsilon, int size, T* total, T* y) {
  const int64_t row = (int64_t)blockIdx.x * size;
  const int first = threadIdx.x * N, step = blockDim.x * N;
  Pack<T, N> kept[K];
  float own = 0, sum, squares;
#pragma unroll
  for (int k = 0, i = first; k < K; ++k, i += step) {
    if (i >= size) break;
    kept[k] = load<T, N>(x + row + i);
    if (residual) {
      const Pack<T, N> added = load<T, N>(residual + row + i);
#pragma unroll
      for (int j = 0; j < N; ++j) kept[k].at[j] = narrow<T>(widen(kept[k].at[j]) + widen(added.at[j]));
      store(total + row + i, kept[k]);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) own += widen(kept[k].at[j]);
  }
  scan(own, sum);
  const float mean = sum / size;
  own = 0;
#pragma unroll
  for (int k = 0, i = first; k < K; ++k, i += step) {
    if (i >= size) break;
#pragma unroll
    for (int j = 0; j < N; ++j) own += (widen(kept[k].at[j]) - mean) * (widen(kept[k].at[j]) - mean);
  }
  scan(own, squares);
  const float inverse = rsqrtf(squares / size + epsilon);
#pragma unroll
  for (int k = 0, i = first; k < K; ++k, i += step) {
    if (i >= size) break;
    const Pack<T, N> scale = load<T, N>(weight + i), shift = load<T, N>(bias + i);
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j)
      out.at[j] = narrow<T>((widen(kept[k].at[j]) - mean) * inverse * widen(scale.at[j]) + widen(shift.at[j]));
    store(y + row + i, out);
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
    auto run = [&](auto kernel, int64_t items, int each) {
      return launch(kernel, dim3((unsigned)rows), threads_for((items + each - 1) / each, MOST_THREADS), stream,
                    (const T*)x, (const T*)residual, (const T*)weight, (const T*)bias, epsilon, (int)size, (T*)total,
                    (T*)y);
    };
    if (packs<T>(size, {x, residual, weight, bias, total, y})) {
      if (size <= MOST_THREADS / 2 * N) return run(layer_norm<T, N, 1>, size / N, 1);
      return run(layer_norm<T, N, 8>, size / N, 8);
    }
    return run(layer_norm<T, 1, 16>, size, 16);
  });
}
