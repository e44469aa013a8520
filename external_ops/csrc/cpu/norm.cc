// Norms and the gated activation: one pass to read, one to write, a row at a time.
#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

constexpr int64_t WORTH_A_THREAD = 1 << 14;  // elements below which waking the other threads costs more

template <class F>
INLINE void for_vectors(int64_t size, F f) {  // f(offset, count), count W but for the last
  int64_t i = 0;
  for (; i + W <= size; i += W) f(i, W);
  if (i < size) f(i, (int)(size - i));
}
INLINE vfloat load_some(const float* p, int count) { return count == W ? load(p) : load_part(p, count); }
INLINE void store_some(float* p, vfloat v, int count) { count == W ? store(p, v) : store_part(p, v, count); }

// Writes x + residual to total and returns what to normalise: total, or x itself.
INLINE const float* add(const float* x, const float* residual, int64_t size, float* total) {
  if (!residual) return x;
  for (int64_t i = 0; i < size; ++i) total[i] = x[i] + residual[i];
  return total;
}

}  // namespace

void rms_norm(const float* x, const float* residual, const float* weight, float epsilon, int64_t rows, int64_t size,
              float* total, float* y) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD)
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = r * size;
    const float* in = add(x + at, residual ? residual + at : nullptr, size, total + at);
    vfloat squares[4] = {};
    for_vectors(size, [&](int64_t i, int count) {
      vfloat v = load_some(in + i, count);
      squares[i / W % 4] += v * v;
    });
    const float mean = sum(squares[0] + squares[1] + squares[2] + squares[3]) / size;
    const float inverse = 1.0f / __builtin_sqrtf(mean + epsilon);
    for (int64_t i = 0; i < size; ++i) y[at + i] = in[i] * inverse * weight[i];
  }
}

void layer_norm(const float* x, const float* residual, const float* weight, const float* bias, float epsilon,
                int64_t rows, int64_t size, float* total, float* y) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD)
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t at = r * size;
    const float* in = add(x + at, residual ? residual + at : nullptr, size, total + at);
    vfloat sums{}, squares{};
    for_vectors(size, [&](int64_t i, int count) { sums += load_some(in + i, count); });
    const float mean = sum(sums) / size;
    for_vectors(size, [&](int64_t i, int count) {
      vfloat v = count == W ? load(in + i) - mean : load_part(in + i, count, mean) - mean;
      squares += v * v;
    });
    const float inverse = 1.0f / __builtin_sqrtf(sum(squares) / size + epsilon);
    for (int64_t i = 0; i < size; ++i) y[at + i] = (in[i] - mean) * inverse * weight[i] + bias[i];
  }
}

void swiglu(const float* gate_up, int64_t rows, int64_t size, float* y) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD / 4)
  for (int64_t r = 0; r < rows; ++r) {
    const float *gate = gate_up + 2 * r * size, *up = gate + size;
    for_vectors(size, [&](int64_t i, int count) {
      store_some(y + r * size + i, silu(load_some(gate + i, count)) * load_some(up + i, count), count);
    });
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
