// Products of small matrices on the tensor cores: float16 from compute capability 7.5 on, bfloat16 from 8.0 on.
#pragma once

#include <type_traits>

#include "device.h"

namespace qwenvl {
namespace cuda {

typedef Pack<unsigned, 4> Quad;  // 8 numbers of 16 bits

// Whether the current device multiplies numbers of type T so.
template <class T>
inline bool has_tensor_cores() {
  const int capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  return sizeof(T) == 2 && capability >= (std::is_same<T, __half>::value ? 75 : 80);
}

// c += A B. On lane 4 g + t c[0] and c[1] are numbers 2t and 2t + 1 of row g, c[2] and c[3] of row g + 8. Of A [16, 16] it holds
// columns 2t and 2t + 1 of rows g and g + 8, then the two columns 8 further of both; of B [16, 8] the same rows of its column g.
template <class T>
__device__ inline void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (std::is_same<T, __half>::value)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 750
  if constexpr (std::is_same<T, __half>::value)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(i ? b1 : b0));
  else
    __trap();
#elif defined(__CUDA_ARCH__)
  __trap();  // code for an older GPU than this one
#else
  // By shuffles: what the emulator runs.
  const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
  for (int s = 0; s < 4; ++s)
    for (int i = 0; i < 4; ++i) {
      const unsigned row = __shfl_sync(FULL, a[i], g * 4 + s);
      for (int e = 0; e < 2; ++e) {
        const unsigned column = __shfl_sync(FULL, i < 2 ? b0 : b1, (2 * t + e) * 4 + s);
        for (int j = 0; j < 2; ++j)
          c[i % 2 * 2 + e] += widen(((const T*)&row)[j]) * widen(((const T*)&column)[j]);
      }
    }
#endif
}

// The lower halves of two pairs of numbers, and the upper ones.
__device__ inline unsigned low_halves(unsigned x, unsigned y) { return (x & 0xffffu) | y << 16; }
__device__ inline unsigned high_halves(unsigned x, unsigned y) { return x >> 16 | (y & 0xffff0000u); }

}  // namespace cuda
}  // namespace qwenvl
