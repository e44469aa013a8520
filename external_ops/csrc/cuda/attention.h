// Attention against the KV cache: what its kernels share. Work is split over queries, kv heads and spans of slots, whose
// partial softmaxes are joined at the end (Flash-Decoding, Dao et al. 2023).
#pragma once

#include "device.h"

namespace qwenvl {
namespace cuda {

constexpr int THREADS = 128;  // of a block
constexpr int LEAST_SPAN = 64;
constexpr int MOST_SPLITS = 256;
constexpr float LOWEST = -1e30f;

template <class T>
struct Attention {
  const T* q;  // [tokens, H, D], or packed qkv [tokens, (H + 2 Hkv) D] of tokens that are not in the cache yet, where there are tables
  T *k, *v;    // [blocks, Hkv, block size, D]
  const float *cos, *sin;  // [tokens, D/2], or null
  Places places;           // of the packed tokens, each its row's last
  QwenvlRows rows;
  const int32_t* cu_q;  // null where token t is the only one of row t
  Divisor block_size;
  int blocks, heads, kv_heads, head_dim, splits;
  float scale;
  bool aligned;
  float *parts, *softmax;  // [tokens, H, splits, D], weighted sums of values; [tokens, H, splits, 2], highest score and sum of weights
  T* out;

  // The row of a token and how many of its tokens that one sees.
  __device__ int64_t locate(int64_t token, int& visible) const {
    int64_t row = token, later = 0;
    if (cu_q) {
      for (row = 0; row + 1 < rows.count && cu_q[row + 1] <= token;) ++row;
      later = cu_q[row + 1] - 1 - token;
    }
    const int64_t seen = rows.lengths[row] - later, slots = rows.blocks * block_size.divisor;
    visible = (int)(seen < 0 ? 0 : seen > slots ? slots : seen);
    return row;
  }
  // How many slots a block does, a multiple of LEAST_SPAN.
  __device__ int span(int visible) const {
    return ((visible + splits - 1) / splits + LEAST_SPAN - 1) / LEAST_SPAN * LEAST_SPAN;
  }
};

// What a block does: the heads head .. head + count of a token, which share a kv head, and the slots start .. end of its row.
template <class T>
struct Block {
  int64_t token;
  const int32_t* table;
  int kv_head, head, count, start, end;
  bool last;  // the row's last token is among the slots

  __device__ Block(const Attention<T>& a, int together) {
    const int group = a.heads / a.kv_heads, chunks = (group + together - 1) / together;
    const int left = group - blockIdx.y % chunks * together;
    int visible;
    token = blockIdx.x;
    table = a.rows.block_tables + a.locate(token, visible) * a.rows.blocks;
    kv_head = blockIdx.y / chunks;
    head = kv_head * group + blockIdx.y % chunks * together, count = left < together ? left : together;
    start = blockIdx.z * a.span(visible), end = start + a.span(visible);
    last = start < visible && visible <= end;
    end = end < visible ? end : visible;
  }
  __device__ bool idle() const { return start >= end && blockIdx.z > 0; }
  // Where a slot's numbers are, counted in heads' sizes; -1 past the end and in a block that the cache has not got.
  __device__ int place(const Attention<T>& a, int slot) const {
    if (slot >= end) return -1;
    int offset;
    const int block = table[a.block_size.divide(slot, offset)];
    if (block < 0 || block >= a.blocks) return -1;
    return (block * a.kv_heads + kv_head) * a.block_size.divisor + offset;
  }
};

// The queries of a block. Packed ones are turned to `turned` [count, D], and of the row's last token key and value go to the
// cache, where this block reads them: blocks that share a kv head write the same.
template <class T>
__device__ inline const T* queries(const Attention<T>& a, const Block<T>& block, T* turned) {
  if (!a.cos) return a.q + (block.token * a.heads + block.head) * a.head_dim;
  const int half = a.head_dim / 2, key = block.count, value = key + 1;
  const T* heads = a.q + block.token * (a.heads + 2 * a.kv_heads) * a.head_dim;
  const bool writes = block.last && a.places.hold(block.token);
  const int64_t place = writes ? a.places.at(block.token, a.kv_heads, block.kv_head) * a.head_dim : 0;
  for (int i = threadIdx.x; i < (writes ? value + 1 : key) * half; i += THREADS) {
    const int h = i / half, n = i % half;
    const int from = h < key ? block.head + h : a.heads + block.kv_head + (h == key ? 0 : a.kv_heads);
    T first = heads[from * a.head_dim + n], second = heads[from * a.head_dim + half + n];
    if (h < value) turn(first, second, a.cos[block.token * half + n], a.sin[block.token * half + n]);
    T* to = h < key ? turned + h * a.head_dim : (h == key ? a.k : a.v) + place;
    to[n] = first, to[half + n] = second;
  }
  __syncthreads();
  return turned;
}

// What the PARTS of a block have of its H heads: sums of values, highest scores, sums of weights.
template <int PARTS, int H, int SIZE>
struct Sums {
  float outs[PARTS][H][SIZE], tops[PARTS][H], totals[PARTS][H];
};

// Ends a block. Number n of a head is number place(n) of a sum.
template <class T, int PARTS, int H, int SIZE, class Place>
__device__ inline void finish(const Attention<T>& a, const Block<T>& block, const Sums<PARTS, H, SIZE>& sums,
                              Place place) {
  __syncthreads();
  for (int i = threadIdx.x; i < block.count * a.head_dim; i += THREADS) {
    const int h = i / a.head_dim, n = i % a.head_dim;
    float top = LOWEST, weights = 0, sum = 0;
#pragma unroll
    for (int p = 0; p < PARTS; ++p) top = fmaxf(top, sums.tops[p][h]);
#pragma unroll
    for (int p = 0; p < PARTS; ++p) {
      const float weight = exp2f(sums.tops[p][h] - top);
      weights += weight * sums.totals[p][h];
      sum += weight * sums.outs[p][h][place(n)];
    }
    const int64_t at = block.token * a.heads + block.head + h;
    if (a.splits == 1) {
      a.out[at * a.head_dim + n] = narrow<T>(weights > 0 ? sum / weights : 0.0f);
      continue;
    }
    const int64_t part = at * a.splits + blockIdx.z;
    a.parts[part * a.head_dim + n] = sum;
    if (n == 0) a.softmax[part * 2] = top, a.softmax[part * 2 + 1] = weights;
  }
}

}  // namespace cuda
}  // namespace qwenvl
