// Products of many rows in float32 by Paddle's oneDNN, through the one function of it that needs no headers. Weights go a
// few rows at a time: widened where they are narrow, and finished while the product is in the cache. Compiled once.
#include "products.h"

#ifdef QWENVL_ONEDNN_FLOAT32

#include <algorithm>
#include <memory>

// C [m, n] = alpha A B + beta C, row-major; 'T' for a transposed operand (oneapi/dnnl/dnnl.h).
extern "C" int dnnl_sgemm(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                          const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

namespace qwenvl {
namespace {

constexpr int64_t FEWEST_ROWS = 512;  // below, the kernels are faster
constexpr int64_t CHUNK = 6 << 20;    // weights at a time

}  // namespace

bool float32_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                    int64_t m, int64_t k, int64_t n, float* y) {
  const bool narrow = dtype != QWENVL_FLOAT32;
  if (m < FEWEST_ROWS || k == 0 || (narrow && qwenvl_cpu_kernels()->integer_products)) return false;
  const int64_t bytes = dtype == QWENVL_INT8 ? 1 : 2, chunk = std::max<int64_t>(1, CHUNK / k);  // weight rows
  std::unique_ptr<float[]> wide(narrow ? new float[std::min(n, chunk) * k] : nullptr);
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t count = std::min(chunk, n - first);
    const float* rows = narrow ? wide.get() : (const float*)weight + first * k;
    if (narrow)
      qwenvl_cpu_kernels()->to_float32((const char*)weight + first * k * bytes, dtype, count * k, wide.get());
    if (dnnl_sgemm('N', 'T', m, count, k, 1.0f, x, k, rows, k, 0.0f, y + first, n)) return false;
    finish_columns(scales, bias, m, n, first, count, y);
  }
  return true;
}

}  // namespace qwenvl

#else

bool qwenvl::float32_linear(const float*, const void*, QwenvlDtype, const float*, const float*, int64_t, int64_t,
                            int64_t, float*) {
  return false;
}

#endif
