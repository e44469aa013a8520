// Layer norm with the residual added in the same pass; Paddle has the root-mean-square norm.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

// Count, mean and sum of squared distances from it, joined as in Chan, Golub & LeVeque 1979.
struct Moments {
  float count, mean, squares;

  __device__ void join(const Moments& other) {
    const float both = count + other.count, apart = other.mean - mean;
    if (both == 0) return;
    const float share = other.count / both;
    mean += apart * share;
    squares += other.squares + apart * apart * count * share;
    count = both;
  }
};

__device__ Moments over_block(Moments own) {
  __shared__ Moments parts[WARP];
  for (int step = WARP / 2; step > 0; step /= 2)
    own.join({__shfl_xor_sync(FULL, own.count, step), __shfl_xor_sync(FULL, own.mean, step),
              __shfl_xor_sync(FULL, own.squares, step)});
  if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = own;
  __syncthreads();
  Moments all = parts[0];
  for (int w = 1; w < (int)blockDim.x / WARP; ++w) all.join(parts[w]);
  return all;
}

// A block normalises a row. Its second reading of the row finds it in the caches.
template <class T, int N>
__global__ void layer_norm(const T* x, const T* residual, const T* weight, const T* bias, float epsilon, int size,
                           T* total, T* y) {
  const int64_t row = (int64_t)blockIdx.x * size;
  const int step = blockDim.x * N;
  const T* in = residual ? total + row : x + row;
  Moments own{0, 0, 0};
  for (int i = threadIdx.x * N; i < size; i += step) {
    Pack<T, N> pack = load<T, N>(x + row + i);
    if (residual) {
      const Pack<T, N> added = load<T, N>(residual + row + i);
#pragma unroll
      for (int j = 0; j < N; ++j) pack.at[j] = narrow<T>(widen(pack.at[j]) + widen(added.at[j]));
      store(total + row + i, pack);
    }
    Moments some{N, 0, 0};
#pragma unroll
    for (int j = 0; j < N; ++j) some.mean += widen(pack.at[j]) / N;
#pragma unroll
    for (int j = 0; j < N; ++j) some.squares += (widen(pack.at[j]) - some.mean) * (widen(pack.at[j]) - some.mean);
    own.join(some);
  }
  const Moments all = over_block(own);
  const float inverse = rsqrtf(all.squares / size + epsilon);
  for (int i = threadIdx.x * N; i < size; i += step) {  // each thread the numbers it read before, so it sees its own total
    const Pack<T, N> pack = load<T, N>(in + i), scale = load<T, N>(weight + i), shift = load<T, N>(bias + i);
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j)
      out.at[j] = narrow<T>((widen(pack.at[j]) - all.mean) * inverse * widen(scale.at[j]) + widen(shift.at[j]));
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
  if (size <= 0 || size > INT32_MAX / 2 || rows > INT32_MAX) return cudaErrorInvalidValue;
  return with_type(dtype, [&](auto zero) {
    typedef decltype(zero) T;
    constexpr int N = 16 / sizeof(T);
    auto run = [&](auto kernel, int64_t items) {
      return launch(kernel, dim3((unsigned)rows), threads_for(items, 512), stream, (const T*)x, (const T*)residual,
                    (const T*)weight, (const T*)bias, epsilon, (int)size, (T*)total, (T*)y);
    };
    if (packs<T>(size, {x, residual, weight, bias, total, y})) return run(layer_norm<T, N>, size / N);
    return run(layer_norm<T, 1>, size);
  });
}
