// Products of many rows in float32 by Paddle's oneDNN. Weights go a few rows at a time: widened where they are narrow, and
// finished while the product is in the cache. Compiled once.
#include "products.h"

#ifdef QWENVL_ONEDNN

#include <algorithm>
#include <memory>

#include "onednn.h"

namespace qwenvl {
namespace {

constexpr int64_t FEWEST_ROWS = 512;  // below, the kernels are faster
constexpr int64_t CHUNK = 6 << 20;    // weights at a time

}  // namespace

bool float32_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales, const float* bias,
                    int64_t m, int64_t k, int64_t n, float* y) {
  const bool narrow = dtype != QWENVL_FLOAT32;
  if (m < FEWEST_ROWS) return false;
  const OneDnnThreads threads;
  const int64_t bytes = dtype == QWENVL_INT8 || dtype == QWENVL_FP8 ? 1 : 2, chunk = std::max<int64_t>(1, CHUNK / k);  // weight rows
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

extern "C" int qwenvl_has_onednn(void) { return 1; }

#else

bool qwenvl::float32_linear(const float*, const void*, QwenvlDtype, const float*, const float*, int64_t, int64_t,
                            int64_t, float*) {
  return false;
}
extern "C" int qwenvl_has_onednn(void) { return 0; }

#endif
