// Products of a few rows with int4, int8 and fp8 weights on the tensor cores. Rows of A are outputs, columns of B rows of x. A
// weight's numbers become float16 or bfloat16 before they are scaled, which is exact; sums are scaled in float32.
#pragma once

#include "mma.h"
#include "narrow_weights.h"

namespace qwenvl {
namespace cuda {

constexpr int OUTPUTS = 16;     // of a block
constexpr int COLUMNS = 8;      // rows of x in a product
constexpr int STEP = 128;       // inputs of a warp at a time
constexpr int UNITS = 4;        // of a step, in each of which a lane has N numbers of two outputs
constexpr int MOST_WARPS = 16;  // of a block, which share its inputs

// x * y + z of two numbers each.
template <class T>
__device__ inline unsigned multiply_add(unsigned x, unsigned y, unsigned z) {
#if defined(__CUDA_ARCH__)
  unsigned sum = 0;
  if constexpr (std::is_same<T, __half>::value)
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(y), "r"(z));
#if __CUDA_ARCH__ >= 800
  else
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(y), "r"(z));
#endif
  return sum;
#else
  Pack<T, 2> sum;
  auto at = [](const unsigned& pair, int j) { return widen(((const T*)&pair)[j]); };
  for (int j = 0; j < 2; ++j) sum.at[j] = narrow<T>(at(x, j) * at(y, j) + at(z, j));
  return *(const unsigned*)&sum;
#endif
}

// Where in a step a lane's numbers begin in a unit: the four lanes that share an output have neighbouring ones.
__device__ inline int interleaved(int unit, int t) { return unit * STEP / UNITS + t * N; }

// What a lane has of a step of int4. Where groups are of WHOLE steps it reads 16 bytes at a time.
template <class T, bool WHOLE>
struct Int4Step {
  static constexpr bool HALF = std::is_same<T, __half>::value;
  // A step q, put into the last bits of BASE, is a number less BASE: 1024 in float16, 128 in bfloat16.
  static constexpr unsigned BASE = HALF ? 0x64006400u : 0x43004300u, ONE = HALF ? 0x3c003c00u : 0x3f803f80u;
  static constexpr bool ONE_GROUP = WHOLE;  // its numbers have one scale
  unsigned words[2][UNITS] = {}, minus_zero[2];
  float scale[2];

  __device__ static int column(int unit, int t) { return WHOLE ? t * STEP / 4 + unit * N : interleaved(unit, t); }
  __device__ void load(const Int4& weight, const int64_t (&outputs)[2], int step, int t) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if constexpr (WHOLE) {
        if (step >= weight.k) return;
        const Quad all = cuda::load<unsigned, UNITS>(weight.words(outputs[i], step + column(0, t)));
#pragma unroll
        for (int u = 0; u < UNITS; ++u) words[i][u] = all.at[u];
      } else {
#pragma unroll
        for (int u = 0; u < UNITS; ++u)
          if (step + interleaved(u, 0) < weight.k) words[i][u] = *weight.words(outputs[i], step + column(u, t));
      }
  }
  // Of the group that a unit is of.
  __device__ void begin(const Int4& weight, const int64_t (&outputs)[2], int step, int unit) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t group = weight.group_of(outputs[i], step + interleaved(unit, 0));
      scale[i] = weight.scales[group];
      minus_zero[i] = 0x80008000u | BASE | weight.zero(group) * 0x10001u;
    }
  }
  // Numbers j and j + 4 of the unit's eight of output i.
  __device__ unsigned pair(int i, int unit, int j) const {
    return multiply_add<T>((words[i][unit] >> 4 * j & 0x000f000fu) | BASE, ONE, minus_zero[i]);
  }
};

// The same of numbers of a byte each.
struct ByteStep {
  static constexpr bool ONE_GROUP = false;
  Pack<unsigned, 2> words[2][UNITS] = {};
  float scale[2];

  __device__ static int column(int unit, int t) { return interleaved(unit, t); }
  __device__ void load(const Bytes& weight, const int64_t (&outputs)[2], int step, int t) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int u = 0; u < UNITS; ++u)
        if (step + column(u, 0) < weight.k)
          words[i][u] = cuda::load<unsigned, 2>(weight.words(outputs[i], step + column(u, t)));
  }
};

template <class T>
struct Int8Step : ByteStep {
  // 7 bits, put into the last ones of BASE, less BASE, and less 128 where the sign is set, which is the next bit of minus BASE.
  static constexpr unsigned BASE = Int4Step<T, true>::BASE, ONE = Int4Step<T, true>::ONE;

  __device__ void begin(const Int8& weight, const int64_t (&outputs)[2], int, int) {
#pragma unroll
    for (int i = 0; i < 2; ++i) scale[i] = weight.scales[outputs[i]];
  }
  __device__ unsigned pair(int i, int unit, int j) const {
    const Pack<unsigned, 2>& both = words[i][unit];
    const unsigned bits = __byte_perm(both.at[0], both.at[1], (j + 4) << 8 | j);  // in the lower bytes of two
    return multiply_add<T>((bits & 0x007f007fu) | BASE, ONE, 0x80008000u | BASE | (bits & 0x00800080u));
  }
};

template <class T>
struct Fp8Step : ByteStep {
  static constexpr bool HALF = std::is_same<T, __half>::value;

  __device__ void begin(const Fp8& weight, const int64_t (&outputs)[2], int, int) {
#pragma unroll
    for (int i = 0; i < 2; ++i) scale[i] = 256 * weight.scales[outputs[i]];  // what `pair` leaves out
  }
  // A sign and 7 bits at the places of the wider type's are the number by a power of 2: 2^-8 in float16, 2^-120 in bfloat16.
  __device__ unsigned pair(int i, int unit, int j) const {
    const Pack<unsigned, 2>& both = words[i][unit];
    const unsigned bits = __byte_perm(both.at[0], both.at[1], (j + 4) << 12 | j << 4);  // in the upper bytes of two
    unsigned numbers = (bits & 0x80008000u) | (bits & 0x7f007f00u) >> (HALF ? 1 : 4);
    if (!HALF) numbers = multiply_add<T>(numbers, 0x77807780u, 0x80008000u);  // by 2^112
    return numbers | spoiled(both.at[0]) | spoiled(both.at[1]);
  }
  // What makes numbers not numbers, where one of a word is none.
  __device__ static unsigned spoiled(unsigned word) {
    return ((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u ? 0x7fff7fffu : 0;
  }
};

// A block makes OUTPUTS outputs of up to P * COLUMNS rows.
template <class T, int P, class Step, class Weight>
__global__ void __launch_bounds__(MOST_WARPS * WARP) multiply_mma(Weight weight, const T* x, const T* bias, int rows, T* y) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP, g = lane / 4, t = lane % 4;
  const int64_t first = (int64_t)blockIdx.x * OUTPUTS, last = weight.n - 1;
  const int64_t outputs[] = {first + g < last ? first + g : last, first + g + 8 < last ? first + g + 8 : last};
  float total[P][4] = {};
  Step next;
  next.load(weight, outputs, warp * STEP, t);
  for (int step = warp * STEP; step < weight.k; step += warps * STEP) {
    Step now = next;
    next.load(weight, outputs, step + warps * STEP, t);
    float sums[P][4] = {};
#pragma unroll
    for (int u = 0; u < UNITS; ++u) {
      if (step + interleaved(u, 0) >= weight.k) break;
      if (!Step::ONE_GROUP || u == 0) now.begin(weight, outputs, step, u);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        unsigned a[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) a[i] = now.pair(i % 2, u, 2 * half + i / 2);
#pragma unroll
        for (int p = 0; p < P; ++p) {
          const int row = p * COLUMNS + g;
          const T* from = x + (int64_t)row * weight.k + step + Step::column(u, t);
          const Quad some = row < rows ? load<unsigned, 4>((const unsigned*)from) : Quad{};
          multiply<T>(sums[p], a, low_halves(some.at[half], some.at[half + 2]), high_halves(some.at[half], some.at[half + 2]));
        }
      }
      if (!Step::ONE_GROUP || u == UNITS - 1)
#pragma unroll
        for (int p = 0; p < P; ++p)
#pragma unroll
          for (int i = 0; i < 4; ++i) total[p][i] += now.scale[i / 2] * sums[p][i], sums[p][i] = 0;
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
