// Queries against the KV cache on the tensor cores, for heads of 128 numbers in float16 or bfloat16. Up to 8 heads that share a
// kv head are rows of the products; rows 8 to 15 stay zero, which costs nothing where memory is what takes the time.
#pragma once

#include "attention.h"
#include "mma.h"

namespace qwenvl {
namespace cuda {

// c[0], c[1] += numbers 2t and 2t + 1 of row g of A B, where lane is 4 g + t: `multiply` with the lower rows of A zero.
template <class T>
__device__ inline void multiply(float (&c)[2], unsigned a0, unsigned a1, unsigned b0, unsigned b1) {
  const unsigned a[] = {a0, 0, a1, 0};
  float all[] = {c[0], c[1], 0, 0};
  multiply<T>(all, a, b0, b1);
  c[0] = all[0], c[1] = all[1];
}

template <class T>
__device__ inline unsigned pair(float low, float high) {
  Pack<T, 2> both{{narrow<T>(low), narrow<T>(high)}};
  return *(const unsigned*)&both;
}

// A block takes a token, up to 8 heads that share a kv head, and a span of slots, a warp 16 slots of it at a time. The order of
// a head's numbers in the products is one in which every lane reads 16 bytes at a time: products do not depend on it.
template <class T>
__global__ void __launch_bounds__(THREADS, 3) attend_mma(Attention<T> a) {
  constexpr int H = 8, D = 128, WARPS = THREADS / WARP, SLOTS = 16;
  const Block<T> block(a, H);
  if (block.idle()) return;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
  auto fetch = [](bool real, const T* from) { return real ? load<unsigned, 4>((const unsigned*)from) : Quad{}; };

  alignas(16) __shared__ T turned[H * D];
  const T* given = queries(a, block, turned);
  Quad q[4];  // of head g: numbers 32 b + 8 t to + 8
#pragma unroll
  for (int b = 0; b < 4; ++b) q[b] = fetch(g < block.count, given + g * D + b * 32 + t * 8);
  float out[16][2] = {}, highest = LOWEST, total = 0;  // out[j][e] is number 16 (2t + e) + j of head g
  int places = block.place(a, block.start + warp * SLOTS + lane % SLOTS);  // of the slots that come next, one a lane
  for (int first = block.start + warp * SLOTS; first < block.end; first += WARPS * SLOTS) {
    Quad keys[2][4], values[4][2];
    bool there[4];
#pragma unroll
    for (int u = 0; u < 2; ++u) {
      const int place = __shfl_sync(FULL, places, u * 8 + g);
#pragma unroll
      for (int b = 0; b < 4; ++b) keys[u][b] = fetch(place >= 0, a.k + (int64_t)place * D + b * 32 + t * 8);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int place = __shfl_sync(FULL, places, i / 2 * 8 + 2 * t + i % 2);
      there[i] = place >= 0;
#pragma unroll
      for (int p = 0; p < 2; ++p) values[i][p] = fetch(there[i], a.v + (int64_t)place * D + g * 16 + p * 8);
    }
    places = block.place(a, first + WARPS * SLOTS + lane % SLOTS);
    float scores[2][2] = {}, top = highest;  // scores[u][e] is head g's with slot first + 8 u + 2 t + e
#pragma unroll
    for (int u = 0; u < 2; ++u) {
#pragma unroll
      for (int b = 0; b < 4; ++b) {
        multiply<T>(scores[u], q[b].at[0], q[b].at[1], keys[u][b].at[0], keys[u][b].at[1]);
        multiply<T>(scores[u], q[b].at[2], q[b].at[3], keys[u][b].at[2], keys[u][b].at[3]);
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        scores[u][e] = there[2 * u + e] ? scores[u][e] * (a.scale * LOG2E) : -INFINITY;
        top = fmaxf(top, scores[u][e]);
      }
    }
    top = fmaxf(top, __shfl_xor_sync(FULL, top, 1));
    top = fmaxf(top, __shfl_xor_sync(FULL, top, 2));
    const float shrink = exp2f(highest - top);
    highest = top;
    total *= shrink;
#pragma unroll
    for (int u = 0; u < 2; ++u)
#pragma unroll
      for (int e = 0; e < 2; ++e) total += scores[u][e] = exp2f(scores[u][e] - top);
    const unsigned near = pair<T>(scores[0][0], scores[0][1]), far = pair<T>(scores[1][0], scores[1][1]);
#pragma unroll
    for (int j = 0; j < 16; ++j) out[j][0] *= shrink, out[j][1] *= shrink;
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      const unsigned v0 = values[0][r / 4].at[r % 4], v1 = values[1][r / 4].at[r % 4];
      const unsigned v2 = values[2][r / 4].at[r % 4], v3 = values[3][r / 4].at[r % 4];
      multiply<T>(out[2 * r], near, far, low_halves(v0, v1), low_halves(v2, v3));
      multiply<T>(out[2 * r + 1], near, far, high_halves(v0, v1), high_halves(v2, v3));
    }
  }

  __shared__ Sums<WARPS, H, D + 8> sums;  // 8 more: the rows of a column are in different banks
#pragma unroll
  for (int j = 0; j < 16; ++j) *(Pack<float, 2>*)&sums.outs[warp][g][j * 8 + 2 * t] = {{out[j][0], out[j][1]}};
  total += __shfl_xor_sync(FULL, total, 1);
  total += __shfl_xor_sync(FULL, total, 2);
  if (t == 0) sums.tops[warp][g] = highest, sums.totals[warp][g] = total;
  finish(a, block, sums, [](int n) { return n % 16 * 8 + n / 16; });
}

}  // namespace cuda
}  // namespace qwenvl
