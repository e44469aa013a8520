#pragma once

#include "numbers.h"  // the CPU kernels' conversions

struct __nv_bfloat16 {
  uint16_t bits;
};
inline float __bfloat162float(__nv_bfloat16 x) { return qwenvl::QWENVL_ISA::from_bfloat16(x.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return {qwenvl::QWENVL_ISA::to_bfloat16(x)}; }
