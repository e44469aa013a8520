// Products with int4 weights: few rows read the weight once, for many it is dequantised for a product of Paddle's.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int TOGETHER = 8;  // outputs of a block whose warps have one each
constexpr int N = 8;         // numbers of a weight that a thread takes at a time, which are of one group
constexpr int COPIERS = 256;

// A weight [n, k].
struct Int4 {
  const uint8_t* values;
  const void* scales;
  const uint8_t* zeros;
  QwenvlDtype scale_dtype;
  int n, k;
  Divisor group;

  explicit Int4(const QwenvlInt4Weight& w)
      : values(w.values), scales(w.scales), zeros(w.zeros), scale_dtype(w.scale_dtype), n((int)w.n), k((int)w.k),
        group(w.group) {}
  // Numbers at to at + N of output `row`, by their group's scale.
  __device__ float numbers(int64_t row, int at, float (&x)[N]) const {
    int rest;
    const int64_t number = row * (k / group.divisor) + group.divide(at, rest);
    const unsigned word = *(const unsigned*)(values + (row * k + at) / 2);
    const int zero = zeros ? zeros[number] : 8;
#pragma unroll
    for (int j = 0; j < N; ++j) x[j] = (float)((int)(word >> 4 * j & 15) - zero);
    switch (scale_dtype) {
      case QWENVL_FLOAT16: return widen(((const __half*)scales)[number]);
      case QWENVL_BFLOAT16: return widen(((const __nv_bfloat16*)scales)[number]);
      default: return ((const float*)scales)[number];
    }
  }
};

bool holds(const QwenvlInt4Weight& w) {
  return w.n <= INT32_MAX && w.k <= INT32_MAX && w.group > 0 && w.group % QWENVL_INT4_GROUPS_OF == 0 &&
         w.k % w.group == 0 && packs<uint8_t>(w.k / 2, {w.values});
}

// A warp makes an output of up to R rows.
template <class T, int R>
__global__ void __launch_bounds__(TOGETHER * WARP) multiply_rows(Int4 weight, const T* x, const T* bias, int rows, T* y) {
  const int64_t output = (int64_t)blockIdx.x * TOGETHER + threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP, first = blockIdx.y * R, count = rows - first;
  if (output >= weight.n) return;
  x += (int64_t)first * weight.k;
  float total[R] = {};
  for (int at = lane * N; at < weight.k; at += WARP * N) {
    float numbers[N];
    const float scale = weight.numbers(output, at, numbers);
#pragma unroll
    for (int r = 0; r < R; ++r)
      if (r < count) {
        const Pack<T, N> some = load<T, N>(x + (int64_t)r * weight.k + at);
        float sum = 0;
#pragma unroll
        for (int j = 0; j < N; ++j) sum += numbers[j] * widen(some.at[j]);
        total[r] += scale * sum;
      }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    for (int step = WARP / 2; step > 0; step /= 2) total[r] += __shfl_xor_sync(FULL, total[r], step);
    if (lane == 0 && r < count)
      y[(int64_t)(first + r) * weight.n + output] = narrow<T>(total[r] + (bias ? widen(bias[output]) : 0.0f));
  }
}

// A block takes a row of the weight.
template <class T>
__global__ void dequantize(Int4 weight, T* numbers) {
  const int64_t row = blockIdx.x;
  for (int at = threadIdx.x * N; at < weight.k; at += blockDim.x * N) {
    float some[N];
    const float scale = weight.numbers(row, at, some);
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) out.at[j] = narrow<T>(some[j] * scale);
    store(numbers + row * weight.k + at, out);
  }
}

// A block takes a row.
template <class T>
__global__ void gather_columns(const T* x, const int32_t* order, int columns, T* y) {
  const int64_t row = (int64_t)blockIdx.x * columns;
  for (int i = threadIdx.x; i < columns; i += blockDim.x)
    y[row + i] = order[i] >= 0 && order[i] < columns ? x[row + order[i]] : narrow<T>(0.0f);
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int qwenvl_cuda_linear_int4(const void* x, const QwenvlInt4Weight* weight, const void* bias, QwenvlDtype dtype,
                            int64_t rows, void* y, void* stream) {
  if (!holds(*weight) || rows > QWENVL_FEW_CUDA_ROWS) return cudaErrorInvalidValue;
  return with_type(dtype, [&](auto zero) -> int {
    typedef decltype(zero) T;
    if (!packs<T>(weight->k, {x})) return cudaErrorInvalidValue;
    auto run = [&](auto kernel, int64_t each) {
      const dim3 grid((unsigned)((weight->n + TOGETHER - 1) / TOGETHER), (unsigned)((rows + each - 1) / each));
      return launch(kernel, grid, TOGETHER * WARP, stream, Int4(*weight), (const T*)x, (const T*)bias, (int)rows, (T*)y);
    };
    return rows == 1 ? run(multiply_rows<T, 1>, 1) : rows <= 4 ? run(multiply_rows<T, 4>, 4) : run(multiply_rows<T, 8>, 8);
  });
}

int qwenvl_cuda_dequantize_int4(const QwenvlInt4Weight* weight, QwenvlDtype dtype, void* numbers, void* stream) {
  if (!holds(*weight)) return cudaErrorInvalidValue;
  return with_type(dtype, [&](auto zero) -> int {
    typedef decltype(zero) T;
    if (!packs<T>(weight->k, {numbers})) return cudaErrorInvalidValue;
    return launch(dequantize<T>, dim3((unsigned)weight->n), threads_for(weight->k / N, COPIERS), stream, Int4(*weight),
                  (T*)numbers);
  });
}

int qwenvl_cuda_gather_columns(const void* x, const int32_t* order, QwenvlDtype dtype, int64_t rows, int64_t columns,
                               void* y, void* stream) {
  if (rows > INT32_MAX || columns > INT32_MAX) return cudaErrorInvalidValue;
  return with_type(dtype, [&](auto zero) {
    typedef decltype(zero) T;
    return launch(gather_columns<T>, dim3((unsigned)rows), threads_for(columns, 1024), stream, (const T*)x, order,
                  (int)columns, (T*)y);
  });
}
