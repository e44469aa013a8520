// Products with int4 weights on the tensor cores. Rows of A are outputs, their numbers q - zero, which both types hold exactly;
// columns of B are rows of x. The sums of a group are multiplied by its scale in float32.
#pragma once

#include "int4.h"
#include "mma.h"

namespace qwenvl {
namespace cuda {

constexpr int OUTPUTS = 16;    // of a block
constexpr int COLUMNS = 8;     // rows of x in a product
constexpr int STEP = 128;      // inputs of a warp at a time
constexpr int MOST_WARPS = 16;  // of a block, which share its inputs

// What a step has to be added to, as bits of a pair of numbers, to be one: 1024 in float16, 128 in bfloat16.
template <class T>
constexpr unsigned BASE = std::is_same<T, __half>::value ? 0x64006400u : 0x43004300u;

template <class T>
__device__ inline unsigned add_pairs(unsigned x, unsigned y) {
#if defined(__CUDA_ARCH__)
  unsigned sum = 0;
  if constexpr (std::is_same<T, __half>::value)
    asm("add.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(x), "r"(y));
#if __CUDA_ARCH__ >= 800
  else
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(0x3f803f80u), "r"(y));
#endif
  return sum;
#else
  Pack<T, 2> sum;
  for (int j = 0; j < 2; ++j) sum.at[j] = narrow<T>(widen(((const T*)&x)[j]) + widen(((const T*)&y)[j]));
  return *(const unsigned*)&sum;
#endif
}

// Numbers j and j + 4 of a word.
template <class T>
__device__ inline unsigned numbers(unsigned word, int j, unsigned minus_zero) {
  return add_pairs<T>((word >> 4 * j & 0x000f000fu) | BASE<T>, minus_zero);
}

// The words of a lane in a step, 4 of each of its two outputs. Where groups are of WHOLE steps they lie side by side, else the
// words of the 4 lanes that share an output do, so that these are of one group.
template <bool WHOLE>
struct Words {
  unsigned of[2][4] = {};

  static __device__ int column(int step, int u, int t) { return step + (WHOLE ? t * 32 + u * N : u * 32 + t * N); }
  __device__ void load(const Int4& weight, const int64_t (&outputs)[2], int step, int t) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (WHOLE && step < weight.k) {
        const Quad quad = cuda::load<unsigned, 4>((const unsigned*)weight.at(outputs[i], column(step, 0, t)));
#pragma unroll
        for (int u = 0; u < 4; ++u) of[i][u] = quad.at[u];
      }
#pragma unroll
      for (int u = 0; !WHOLE && u < 4; ++u)
        if (step + u * 32 < weight.k) of[i][u] = *(const unsigned*)weight.at(outputs[i], column(step, u, t));
    }
  }
};

// A block makes OUTPUTS outputs of up to P * COLUMNS rows.
template <class T, int P, bool WHOLE>
__global__ void __launch_bounds__(MOST_WARPS * WARP) multiply_mma(Int4 weight, const T* x, const T* bias, int rows, T* y) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP, g = lane / 4, t = lane % 4;
  const int64_t first = (int64_t)blockIdx.x * OUTPUTS, last = weight.n - 1;
  const int64_t outputs[] = {first + g < last ? first + g : last, first + g + 8 < last ? first + g + 8 : last};
  float total[P][4] = {};
  Words<WHOLE> next;
  next.load(weight, outputs, warp * STEP, t);
  for (int step = warp * STEP; step < weight.k; step += warps * STEP) {
    const Words<WHOLE> words = next;
    next.load(weight, outputs, step + warps * STEP, t);
    unsigned minus_zero[2];
    float scale[2], sums[P][4] = {};
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      if (!WHOLE && step + u * 32 >= weight.k) break;
      const int column = Words<WHOLE>::column(step, u, t);
      if (!WHOLE || u == 0)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int64_t group = weight.group_of(outputs[i], column);
          scale[i] = weight.scale(group);
          minus_zero[i] = 0x80008000u | BASE<T> | weight.zero(group) * 0x10001u;
        }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned a[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = numbers<T>(words.of[i % 2][u], 2 * half + i / 2, minus_zero[i % 2]);
#pragma unroll
        for (int p = 0; p < P; ++p) {
          const int row = p * COLUMNS + g;
          const T* from = x + (int64_t)row * weight.k + column;
          const Quad some = row < rows ? load<unsigned, 4>((const unsigned*)from) : Quad{};
          multiply<T>(sums[p], a, low_halves(some.at[half], some.at[half + 2]), high_halves(some.at[half], some.at[half + 2]));
        }
      }
      if (!WHOLE || u == 3)
#pragma unroll
        for (int p = 0; p < P; ++p)
#pragma unroll
          for (int i = 0; i < 4; ++i) total[p][i] += scale[i / 2] * sums[p][i], sums[p][i] = 0;
    }
  }

  __shared__ float parts[MOST_WARPS][P][COLUMNS][OUTPUTS];
#pragma unroll
  for (int p = 0; p < P; ++p)
#pragma unroll
    for (int i = 0; i < 4; ++i) parts[warp][p][2 * t + i % 2][g + i / 2 * 8] = total[p][i];
  __syncthreads();
  for (int item = threadIdx.x; item < P * COLUMNS * OUTPUTS; item += blockDim.x) {
    const int row = item / OUTPUTS;
    const int64_t output = first + item % OUTPUTS;
    if (row >= rows || output > last) continue;
    float sum = bias ? widen(bias[output]) : 0.0f;
    for (int w = 0; w < warps; ++w) sum += (&parts[w][0][0][0])[item];
    y[row * (int64_t)weight.n + output] = narrow<T>(sum);
  }
}

}  // namespace cuda
}  // namespace qwenvl
