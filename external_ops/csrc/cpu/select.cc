// Which kernels run, and on how many threads. Compiled once, for the oldest CPU.
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <memory>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "products.h"

#define TABLE_OF(isa)                                               \
  namespace qwenvl {                                                \
  namespace isa {                                                   \
  extern const QwenvlCpuKernels kernels __attribute__((weak));      \
  }                                                                 \
  }
TABLE_OF(generic)  // the others are there where the compiler knows their flags
TABLE_OF(avx2)
TABLE_OF(avx512)
TABLE_OF(avx512_vnni)
TABLE_OF(avx512_bf16)
TABLE_OF(amx)

static const QwenvlCpuKernels* choose() {
  const char* wanted = getenv("QWENVL_ISA");
  auto use = [&](const QwenvlCpuKernels* k) { return k && (!wanted || !*wanted || !strcmp(wanted, k->isa)); };
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  unsigned a = 0, b = 0, c = 0, d = 0, bfloat16 = 0;  // older compilers know no names for these
  const bool vnni = avx512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && c >> 11 & 1;
  const bool vbmi = c >> 1 & 1;
  const bool amx = vnni && d >> 24 & 1 && d >> 22 & 1;  // tiles, and their products in bfloat16
  if (vnni) __get_cpuid_count(7, 1, &bfloat16, &b, &c, &d);
  const bool bf16 = vbmi && bfloat16 >> 5 & 1;
  if (bf16 && amx && use(&qwenvl::amx::kernels) && qwenvl::may_use_tiles()) return &qwenvl::amx::kernels;
  if (bf16 && use(&qwenvl::avx512_bf16::kernels)) return &qwenvl::avx512_bf16::kernels;
  if (vnni && use(&qwenvl::avx512_vnni::kernels)) return &qwenvl::avx512_vnni::kernels;
  if (avx512 && use(&qwenvl::avx512::kernels)) return &qwenvl::avx512::kernels;
  if (avx2 && use(&qwenvl::avx2::kernels)) return &qwenvl::avx2::kernels;
#endif
  return &qwenvl::generic::kernels;
}

extern "C" const QwenvlCpuKernels* qwenvl_cpu_kernels(void) {
  static const QwenvlCpuKernels* const kernels = choose();
  return kernels;
}

extern "C" const char* qwenvl_cpu_isa(void) { return qwenvl_cpu_kernels()->isa; }

extern "C" const char* qwenvl_cpu_path(void) {
  if (qwenvl_product(QWENVL_BFLOAT16, 512) != QWENVL_PRODUCT_BFLOAT16) return qwenvl_cpu_isa();
  return qwenvl_has_amx() || qwenvl_cpu_kernels()->tiles ? "amx" : "avx512_bf16";
}

static std::atomic<int> threads{0};

extern "C" int qwenvl_threads(void) {
  const int set = threads.load(std::memory_order_relaxed);
  return set > 0 ? set : omp_get_max_threads();
}

extern "C" void qwenvl_set_threads(int count) { threads.store(count, std::memory_order_relaxed); }

// Of which bfloat16 holds every number, or nearly so.
static bool fits_bfloat16(QwenvlDtype dtype) { return dtype != QWENVL_FLOAT32 && dtype != QWENVL_FLOAT16; }

// Whether the kernels multiply on tiles.
static bool on_tiles(QwenvlDtype dtype, int64_t m) {
  return qwenvl_cpu_kernels()->tiles && fits_bfloat16(dtype) && m > QWENVL_SOME_ROWS;
}

// Whether oneDNN multiplies narrow weights. It is faster with many rows in bfloat16, with integers on tiles alone.
static bool by_onednn(QwenvlDtype dtype, int64_t m) {
  if (!qwenvl::has_bfloat16_products() || !fits_bfloat16(dtype) || qwenvl_cpu_kernels()->tiles) return false;
  if (!qwenvl_cpu_kernels()->bfloat16_products) return m > QWENVL_FEW_ROWS;
  return m > QWENVL_SOME_ROWS && (dtype == QWENVL_BFLOAT16 || dtype == QWENVL_FP8 || qwenvl_has_amx());
}

extern "C" QwenvlProduct qwenvl_product(QwenvlDtype dtype, int64_t m) {
  const QwenvlCpuKernels& kernels = *qwenvl_cpu_kernels();
  const bool int8 = dtype == QWENVL_INT8, bfloat16 = dtype == QWENVL_BFLOAT16 || dtype == QWENVL_FP8;
  if (dtype == QWENVL_FLOAT32) return QWENVL_PRODUCT_FLOAT32;
  if (bfloat16 && kernels.bfloat16_products) return m > 1 ? QWENVL_PRODUCT_BFLOAT16 : QWENVL_PRODUCT_FLOAT32;
  if (on_tiles(dtype, m) || by_onednn(dtype, m)) return QWENVL_PRODUCT_BFLOAT16;
  if (dtype == QWENVL_INT4) return kernels.int4_integers ? QWENVL_PRODUCT_INTEGERS : QWENVL_PRODUCT_FLOAT32;
  if (kernels.integer_products && (int8 || m > kernels.few_rows(dtype))) return QWENVL_PRODUCT_INTEGERS;
  return QWENVL_PRODUCT_FLOAT32;
}

extern "C" void qwenvl_linear(const float* x, const void* weight, QwenvlDtype dtype, const float* scales,
                              const float* bias, int64_t m, int64_t k, int64_t n, float* y) {
  const QwenvlProduct product = qwenvl_product(dtype, m);
  auto* const onednn = product == QWENVL_PRODUCT_FLOAT32                   ? qwenvl::float32_linear
                       : product == QWENVL_PRODUCT_BFLOAT16 && by_onednn(dtype, m) ? qwenvl::bfloat16_linear
                                                                            : nullptr;
  if (onednn && m && k && n && onednn(x, weight, dtype, scales, bias, m, k, n, y)) return;
  qwenvl_cpu_kernels()->linear(x, weight, dtype, scales, bias, m, k, n, y);
}

extern "C" void qwenvl_linear_swiglu(const float* x, const void* weight, QwenvlDtype dtype, const float* scales,
                                     const float* bias, int64_t m, int64_t k, int64_t n, float* y) {
  const QwenvlCpuKernels& kernels = *qwenvl_cpu_kernels();
  const QwenvlProduct product = qwenvl_product(dtype, m);
  const bool on_onednns_tiles = by_onednn(dtype, m) && qwenvl_has_amx();
  const bool ours = product == QWENVL_PRODUCT_INTEGERS ||
                    (product == QWENVL_PRODUCT_BFLOAT16 && kernels.bfloat16_products && !on_onednns_tiles);
  if (ours && m > QWENVL_SOME_ROWS && k) return kernels.linear_swiglu(x, weight, dtype, scales, bias, m, k, n, y);
  const bool onednn = by_onednn(dtype, m) && k && n;
  if (onednn && qwenvl::bfloat16_linear_swiglu(x, weight, dtype, scales, bias, m, k, n, y)) return;
  const std::unique_ptr<float[]> both(new float[m * n]);
  qwenvl_linear(x, weight, dtype, scales, bias, m, k, n, both.get());
  kernels.swiglu(both.get(), m, n / 2, n / 2, y);
}

// Calls `multiply` with x in the weight's order.
template <class Multiply>
static void in_order(const float* x, const QwenvlInt4Weight& weight, int64_t m, Multiply multiply) {
  if (!weight.order) return multiply(x);
  const int64_t k = weight.k;
  const std::unique_ptr<float[]> ordered(new float[m * k]);
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < k; ++j) ordered[i * k + j] = x[i * k + weight.order[j]];
  multiply(ordered.get());
}

extern "C" void qwenvl_linear_int4(const float* x, const QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y) {
  const bool bfloat16 = m && weight->n && by_onednn(QWENVL_INT4, m);
  in_order(x, *weight, m, [&](const float* x) {
    if (bfloat16 && qwenvl::bfloat16_linear_int4(x, *weight, bias, m, y)) return;
    qwenvl_cpu_kernels()->linear_int4(x, weight, bias, m, y);
  });
}

extern "C" void qwenvl_linear_int4_swiglu(const float* x, const QwenvlInt4Weight* weight, const float* bias, int64_t m,
                                          float* y) {
  const QwenvlCpuKernels& kernels = *qwenvl_cpu_kernels();
  const bool bfloat16 = m && weight->n && by_onednn(QWENVL_INT4, m);
  in_order(x, *weight, m, [&](const float* x) {
    if (bfloat16 && qwenvl::bfloat16_linear_int4_swiglu(x, *weight, bias, m, y)) return;
    kernels.linear_int4_swiglu(x, weight, bias, m, y);
  });
}
