// Norms, the gated activation and biases, and their gradients: one pass to read, one to write, a row at a time.
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

struct Moments {
  float mean, inverse;  // y = (x - mean) * inverse * weight; the mean of a root-mean-square norm is 0
};
INLINE Moments moments(const float* x, int64_t size, float epsilon, bool centred) {
  vfloat sums{}, squares{};
  if (centred) for_vectors(size, [&](int64_t i, int count) { sums += load_some(x + i, count); });
  const float mean = sum(sums) / size;
  for_vectors(size, [&](int64_t i, int count) {
    const vfloat v = count == W ? load(x + i) - mean : load_part(x + i, count, mean) - mean;
    squares += v * v;
  });
  return {mean, 1.0f / __builtin_sqrtf(sum(squares) / size + epsilon)};
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
    const Moments m = moments(in, size, epsilon, true);
    for (int64_t i = 0; i < size; ++i) y[at + i] = (in[i] - m.mean) * m.inverse * weight[i] + bias[i];
  }
}

void swiglu(const float* gate_up, int64_t rows, int64_t size, int64_t stride, float* y) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD / 4)
  for (int64_t r = 0; r < rows; ++r) {
    const float *gate = gate_up + 2 * r * size, *up = gate + size;
    for_vectors(size, [&](int64_t i, int count) {
      store_some(y + r * stride + i, silu(load_some(gate + i, count)) * load_some(up + i, count), count);
    });
  }
}

// With n = (x - mean) / deviation and g = dy * weight: dx = (g - mean(g n) n - mean(g)) / deviation, the last mean only if
// x was centred.
void norm_gradient(const float* x, const float* weight, const float* dy, const float* d_total, float epsilon,
                   int64_t rows, int64_t size, float* dx, float* d_weight, float* d_bias) {
  const bool centred = d_bias != nullptr;
  const int64_t parts = qwenvl_threads();
  Scratch partial(2 * parts * size);
  memset(partial.data, 0, 2 * parts * size * sizeof(float));
#pragma omp parallel for num_threads(parts) if (rows * size > WORTH_A_THREAD)
  for (int64_t r = 0; r < rows; ++r) {
    const float *in = x + r * size, *g = dy + r * size;
    float *weight_sum = partial.data + 2 * thread_index() * size, *bias_sum = weight_sum + size;
    const Moments m = moments(in, size, epsilon, centred);
    vfloat along{}, over{};
    for_vectors(size, [&](int64_t i, int count) {
      const vfloat y = load_some(g + i, count), n = (load_some(in + i, count) - m.mean) * m.inverse;
      const vfloat wide = y * load_some(weight + i, count);
      along += wide * n, over += wide;
      store_some(weight_sum + i, load_some(weight_sum + i, count) + y * n, count);
      if (centred) store_some(bias_sum + i, load_some(bias_sum + i, count) + y, count);
    });
    const float slope = sum(along) / size, shift = centred ? sum(over) / size : 0.0f;
    for (int64_t i = 0; i < size; ++i) {
      const float n = (in[i] - m.mean) * m.inverse;
      dx[r * size + i] = (g[i] * weight[i] - slope * n - shift) * m.inverse + (d_total ? d_total[r * size + i] : 0.0f);
    }
  }
  for (int64_t i = 0; i < size; ++i) {
    d_weight[i] = 0;
    for (int64_t t = 0; t < parts; ++t) d_weight[i] += partial.data[2 * t * size + i];
    if (!centred) continue;
    d_bias[i] = 0;
    for (int64_t t = 0; t < parts; ++t) d_bias[i] += partial.data[(2 * t + 1) * size + i];
  }
}

void swiglu_gradient(const float* gate_up, const float* dy, int64_t rows, int64_t size, float* d_gate_up) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD / 4)
  for (int64_t r = 0; r < rows; ++r) {
    const float *gate = gate_up + 2 * r * size, *up = gate + size;
    float* to = d_gate_up + 2 * r * size;
    for_vectors(size, [&](int64_t i, int count) {
      const vfloat g = load_some(gate + i, count), y = load_some(dy + r * size + i, count), s = sigmoid(g);
      store_some(to + i, y * load_some(up + i, count) * s * (1.0f + g * (1.0f - s)), count);
      store_some(to + size + i, y * g * s, count);
    });
  }
}

void add_bias(const float* bias, int64_t rows, int64_t size, float* y) {
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD)
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < size; ++i) y[r * size + i] += bias[i];
}

void column_sums(const float* x, int64_t rows, int64_t size, float* sums) {
  const int64_t strip = 8 * W;  // of columns, a thread's
#pragma omp parallel for num_threads(qwenvl_threads()) if (rows * size > WORTH_A_THREAD)
  for (int64_t first = 0; first < size; first += strip) {
    const int64_t stop = first + strip < size ? first + strip : size;
    for (int64_t i = first; i < stop; ++i) sums[i] = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = first; i < stop; ++i) sums[i] += x[r * size + i];
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
