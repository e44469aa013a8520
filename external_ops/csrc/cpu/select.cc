// Which kernels run, and on how many threads. Compiled once, for the oldest CPU.
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "products.h"

namespace qwenvl {
namespace generic {
extern const QwenvlCpuKernels kernels;
}
namespace avx2 {
extern const QwenvlCpuKernels kernels;
}
namespace avx512 {
extern const QwenvlCpuKernels kernels;
}
}  // namespace qwenvl

static const QwenvlCpuKernels* choose() {
  const char* wanted = getenv("QWENVL_ISA");
  auto allowed = [&](const QwenvlCpuKernels& k) { return !wanted || !*wanted || !strcmp(wanted, k.isa); };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed(qwenvl::avx512::kernels)) return &qwenvl::avx512::kernels;
  if (avx2 && allowed(qwenvl::avx2::kernels)) return &qwenvl::avx2::kernels;
#endif
  return &qwenvl::generic::kernels;
}

extern "C" const QwenvlCpuKernels* qwenvl_cpu_kernels(void) {
  static const QwenvlCpuKernels* const kernels = choose();
  return kernels;
}

extern "C" const char* qwenvl_cpu_isa(void) { return qwenvl_cpu_kernels()->isa; }

static std::atomic<int> threads{0};

extern "C" int qwenvl_threads(void) {
  const int set = threads.load(std::memory_order_relaxed);
  return set > 0 ? set : omp_get_max_threads();
}

extern "C" void qwenvl_set_threads(int count) { threads.store(count, std::memory_order_relaxed); }

extern "C" QwenvlProduct qwenvl_product(QwenvlDtype dtype, int64_t m) {
  const bool many = m > QWENVL_FEW_ROWS, int8 = dtype == QWENVL_INT8;
  if (dtype == QWENVL_FLOAT32) return QWENVL_PRODUCT_FLOAT32;
  if (many && (int8 || dtype == QWENVL_BFLOAT16) && qwenvl::has_bfloat16_products()) return QWENVL_PRODUCT_BFLOAT16;
  if ((many || int8) && qwenvl_cpu_kernels()->integer_products) return QWENVL_PRODUCT_INTEGERS;
  return QWENVL_PRODUCT_FLOAT32;
}

extern "C" void qwenvl_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales,
                              const float* bias, int64_t m, int64_t k, int64_t n, float* y) {
  const QwenvlProduct product = qwenvl_product(dtype, m);
  auto* const by_onednn = product == QWENVL_PRODUCT_BFLOAT16  ? qwenvl::bfloat16_linear
                          : product == QWENVL_PRODUCT_FLOAT32 ? qwenvl::float32_linear
                                                              : nullptr;
  if (by_onednn && m && k && n && by_onednn(x, weight, dtype, scales, bias, m, k, n, y)) return;
  qwenvl_cpu_kernels()->linear(x, weight, dtype, scales, bias, m, k, n, y);
}
