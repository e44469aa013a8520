// Products with int4 weights.
#include "product_loops.h"
#include "products_int4_lanes.h"
#include "products_int4_many.h"

namespace qwenvl {
namespace QWENVL_ISA {

void swiglu(const float* gate_up, int64_t rows, int64_t size, int64_t stride, float* y);  // norm.cc

void linear_int4(const float* x, const QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y) {
  if (m == 0) return;
  const Operands operands{x, nullptr, bias, m, weight->k, weight->n, y};
  if (m <= Int4FewRows::MOST) return few_rows(Int4FewRows(weight), operands);
#if defined(__AVX2__)
  if (m <= Int4Lanes::MOST) return Int4Lanes(weight, operands).run();
#endif
  many_rows(Int4ManyRows(weight), operands);
}

void linear_int4_swiglu(const float* x, const QwenvlInt4Weight* weight, const float* bias, int64_t m, float* y) {
  if (m <= Int4FewRows::MOST) {
    const Scratch both(m * weight->n);
    linear_int4(x, weight, bias, m, both.data);
    return swiglu(both.data, m, weight->n / 2, weight->n / 2, y);
  }
  const Operands operands{x, nullptr, bias, m, weight->k, weight->n, y};
#if defined(__AVX2__)
  if (m <= Int4Lanes::MOST) return Int4Lanes(weight, operands).run<Gated>();
#endif
  many_rows<Gated>(Int4ManyRows(weight), operands);
}

void int4_to_bfloat16(const QwenvlInt4Weight* weight, int64_t first, int64_t count, uint16_t* y) {
  const Int4Rows rows(weight);
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads())
  for (int64_t r = 0; r < count; ++r) rows.to_bfloat16(first + r, 0, weight->k, y + r * weight->k);
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
