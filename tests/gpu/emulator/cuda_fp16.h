#pragma once

#include "numbers.h"  // the CPU kernels' conversions

struct __half {
  uint16_t bits;
};
inline float __half2float(__half x) { return qwenvl::QWENVL_ISA::from_float16(x.bits); }
inline __half __float2half_rn(float x) { return {qwenvl::QWENVL_ISA::to_float16(x)}; }
