// Products with int4, int8 and fp8 weights: few rows read the weight once, for many it is dequantised for a product of Paddle's.
#include "linear_mma.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int TOGETHER = 8;  // outputs of a block whose warps have one each
constexpr int COPIERS = 256;
constexpr int64_t MOST_INPUTS = 1 << 30;  // a step further is an int still

// Where there are no tensor cores: a warp makes an output of up to R rows.
template <class T, int R, class Weight>
__global__ void __launch_bounds__(TOGETHER * WARP) multiply_rows(Weight weight, const T* x, const T* bias, int rows, T* y) {
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

// What reads steps of a weight on the tensor cores; the second where a step is of several groups.
template <class T>
struct Int4Steps {
  typedef Int4Step<T, true> Of;
  typedef Int4Step<T, false> Else;
};
template <class T>
struct Int8Steps {
  typedef Int8Step<T> Of, Else;
};
template <class T>
struct Fp8Steps {
  typedef Fp8Step<T> Of, Else;
};

template <template <class> class Steps, class Weight>
int multiply_few(const Weight& weight, bool whole, const void* x, const void* bias, QwenvlDtype dtype, int64_t rows, void* y,
                 void* stream) {
  if (rows > QWENVL_FEW_CUDA_ROWS) return cudaErrorInvalidValue;
  return with_type(dtype, [&](auto zero) -> int {
    typedef decltype(zero) T;
    if (!packs<T>(weight.k, {x})) return cudaErrorInvalidValue;
    auto run = [&](auto kernel, int outputs, int64_t together, int threads) {
      const dim3 grid((weight.n + outputs - 1) / outputs, (unsigned)((rows + together - 1) / together));
      return launch(kernel, grid, threads, stream, weight, (const T*)x, (const T*)bias, (int)rows, (T*)y);
    };
    if constexpr (sizeof(T) == 2)
      if (has_tensor_cores<T>()) {
        typedef typename Steps<T>::Of Of;
        typedef typename Steps<T>::Else Else;
        const int threads = threads_for((weight.k + STEP - 1) / STEP * WARP, MOST_WARPS * WARP);
        auto mma = [&](auto of, auto otherwise, int products) {
          return run(whole ? of : otherwise, OUTPUTS, products * COLUMNS, threads);
        };
        if (rows <= COLUMNS) return mma(multiply_mma<T, 1, Of, Weight>, multiply_mma<T, 1, Else, Weight>, 1);
        if (rows <= 2 * COLUMNS) return mma(multiply_mma<T, 2, Of, Weight>, multiply_mma<T, 2, Else, Weight>, 2);
        return mma(multiply_mma<T, 4, Of, Weight>, multiply_mma<T, 4, Else, Weight>, 4);
      }
    if (rows == 1) return run(multiply_rows<T, 1, Weight>, TOGETHER, 1, TOGETHER * WARP);
    return run(multiply_rows<T, 8, Weight>, TOGETHER, 8, TOGETHER * WARP);
  });
}

// A block takes a row of the weight.
template <class T, class Weight>
__global__ void dequantize(Weight weight, T* y) {
  const int64_t row = blockIdx.x;
  for (int at = threadIdx.x * N; at < weight.k; at += blockDim.x * N) {
    float numbers[N];
    const float scale = weight.numbers(row, at, numbers);
    Pack<T, N> out;
#pragma unroll
    for (int j = 0; j < N; ++j) out.at[j] = narrow<T>(numbers[j] * scale);
    store(y + row * weight.k + at, out);
  }
}

template <class Weight>
int dequantize_all(const Weight& weight, QwenvlDtype dtype, void* y, void* stream) {
  return with_type(dtype, [&](auto zero) -> int {
    typedef decltype(zero) T;
    if (!packs<T>(weight.k, {y})) return cudaErrorInvalidValue;
    return launch(dequantize<T, Weight>, dim3(weight.n), threads_for(weight.k / N, COPIERS), stream, weight, (T*)y);
  });
}

// Whether there are kernels for a weight.
bool holds(const QwenvlInt4Weight& w) {
  return w.n <= INT32_MAX && w.k <= MOST_INPUTS && w.group > 0 && w.group % QWENVL_INT4_GROUPS_OF == 0 &&
         w.k % w.group == 0 && w.scale_dtype <= QWENVL_FLOAT16 && packs<uint8_t>(w.k / 2, {w.values});
}
bool holds(const QwenvlByteWeight& w) {
  return w.n <= INT32_MAX && w.k <= MOST_INPUTS && w.k % QWENVL_CUDA_BYTE_INPUTS_OF == 0 && w.scale_dtype <= QWENVL_FLOAT16 &&
         packs<uint8_t>(w.k, {w.values});
}

template <class Weight>
Weight of(const QwenvlByteWeight& w) {
  return {{w.values, {w.scales, w.scale_dtype}, (int)w.n, (int)w.k}};
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
  if (!holds(*weight)) return cudaErrorInvalidValue;
  return multiply_few<Int4Steps>(Int4(*weight), weight->group % STEP == 0, x, bias, dtype, rows, y, stream);
}

int qwenvl_cuda_dequantize_int4(const QwenvlInt4Weight* weight, QwenvlDtype dtype, void* numbers, void* stream) {
  return holds(*weight) ? dequantize_all(Int4(*weight), dtype, numbers, stream) : cudaErrorInvalidValue;
}

int qwenvl_cuda_linear_int8(const void* x, const QwenvlByteWeight* weight, const void* bias, QwenvlDtype dtype,
                            int64_t rows, void* y, void* stream) {
  if (!holds(*weight)) return cudaErrorInvalidValue;
  return multiply_few<Int8Steps>(of<Int8>(*weight), true, x, bias, dtype, rows, y, stream);
}

int qwenvl_cuda_dequantize_int8(const QwenvlByteWeight* weight, QwenvlDtype dtype, void* numbers, void* stream) {
  return holds(*weight) ? dequantize_all(of<Int8>(*weight), dtype, numbers, stream) : cudaErrorInvalidValue;
}

int qwenvl_cuda_linear_fp8(const void* x, const QwenvlByteWeight* weight, const void* bias, QwenvlDtype dtype,
                           int64_t rows, void* y, void* stream) {
  if (!holds(*weight)) return cudaErrorInvalidValue;
  return multiply_few<Fp8Steps>(of<Fp8>(*weight), true, x, bias, dtype, rows, y, stream);
}

int qwenvl_cuda_dequantize_fp8(const QwenvlByteWeight* weight, QwenvlDtype dtype, void* numbers, void* stream) {
  return holds(*weight) ? dequantize_all(of<Fp8>(*weight), dtype, numbers, stream) : cudaErrorInvalidValue;
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
