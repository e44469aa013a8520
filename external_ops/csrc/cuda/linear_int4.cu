// Products with int4 weights: few rows read the weight once, for many it is dequantised for a product of Paddle's.
#include "linear_int4_mma.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int TOGETHER = 8;  // outputs of a block whose warps have one each
constexpr int COPIERS = 256;

// Where there are no tensor cores: a warp makes an output of up to R rows.
template <class T, int R>
__global__ void __launch_bounds__(TOGETHER * WARP) multiply_rows(Int4 weight, const T* x, const T* bias, int rows, T* y) {
  const int64_t output = (int64_t)blockIdx.x * TOGETHER + threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP, first = blockIdx.y * R, count = rows - first;
  if (output >= weight.n) return;
  x += (int64_t)first * weight.k;
  float total[R] = {};
  for (int at = lane * N; at < weight.k; at += WARP * N) {
    const int64_t group = weight.group_of(output, at);
    const unsigned word = *(const unsigned*)weight.at(output, at);
    const float scale = weight.scale(group);
    const int zero = weight.zero(group);
#pragma unroll
    for (int r = 0; r < R; ++r)
      if (r < count) {
        const Pack<T, N> some = load<T, N>(x + (int64_t)r * weight.k + at);
        float sum = 0;
#pragma unroll
        for (int j = 0; j < N; ++j) sum += (float)((int)(word >> 4 * j & 15) - zero) * widen(some.at[j]);
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

template <class T>
int multiply_few(const Int4& weight, const T* x, const T* bias, int rows, T* y, void* stream) {
  auto run = [&](auto kernel, int outputs, int together, int threads) {
    const dim3 grid((weight.n + outputs - 1) / outputs, (rows + together - 1) / together);
    return launch(kernel, grid, threads, stream, weight, x, bias, rows, y);
  };
  if constexpr (sizeof(T) == 2)
    if (has_tensor_cores<T>()) {
      const int threads = threads_for((weight.k + STEP - 1) / STEP * WARP, MOST_WARPS * WARP);
      const bool whole = weight.group.divisor % STEP == 0;
      auto mma = [&](auto of_steps, auto of_less, int together) {
        return run(whole ? of_steps : of_less, OUTPUTS, together, threads);
      };
      if (rows <= COLUMNS) return mma(multiply_mma<T, 1, true>, multiply_mma<T, 1, false>, COLUMNS);
      if (rows <= 2 * COLUMNS) return mma(multiply_mma<T, 2, true>, multiply_mma<T, 2, false>, 2 * COLUMNS);
      return mma(multiply_mma<T, 4, true>, multiply_mma<T, 4, false>, 4 * COLUMNS);
    }
  if (rows == 1) return run(multiply_rows<T, 1>, TOGETHER, 1, TOGETHER * WARP);
  return run(multiply_rows<T, 8>, TOGETHER, 8, TOGETHER * WARP);
}

// A block takes a row of the weight.
template <class T>
__global__ void dequantize(Int4 weight, T* numbers) {
  const int64_t row = blockIdx.x;
  for (int at = threadIdx.x * N; at < weight.k; at += blockDim.x * N) {
    const int64_t group = weight.group_of(row, at);
    const unsigned word = *(const unsigned*)weight.at(row, at);
    const float scale = weight.scale(group);
    const int zero = weight.zero(group);
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) out.at[j] = narrow<T>((float)((int)(word >> 4 * j & 15) - zero) * scale);
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
    return multiply_few(Int4(*weight), (const T*)x, (const T*)bias, (int)rows, (T*)y, stream);
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
