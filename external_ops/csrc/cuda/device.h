// What the CUDA kernels share: 16-byte packs of numbers, launches, sums over a block.
//
// Blocks hold whole warps, and every thread of a warp takes part in its shuffles.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <initializer_list>

#include "kernels.h"

namespace qwenvl {
namespace cuda {

constexpr unsigned FULL = 0xffffffffu;
constexpr int WARP = 32;
constexpr float LOG2E = 1.44269504f;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ inline T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// N numbers that move in accesses of up to 16 bytes.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
  T at[N];
};
template <class T, int N>
__device__ inline Pack<T, N> load(const T* p) {
  return *(const Pack<T, N>*)p;
}
template <class T, int N>
__device__ inline void store(T* p, const Pack<T, N>& pack) {
  *(Pack<T, N>*)p = pack;
}

// Whether accesses may be of 16 bytes: `size`, the length of every run of T, and the pointers are multiples of that.
template <class T>
inline bool packs(int64_t size, std::initializer_list<const void*> pointers) {
  bool fit = size % (16 / (int64_t)sizeof(T)) == 0;
  for (const void* p : pointers) fit = fit && (uintptr_t)p % 16 == 0;
  return fit;
}

// Divides numbers below 2^31 by one that is known at the launch, with a product (Granlund & Montgomery 1994).
struct Divisor {
  int divisor, shift = 31;
  unsigned factor;

  explicit Divisor(int64_t d) : divisor((int)d) {
    while (1ll << (shift - 31) < d) ++shift;
    factor = (unsigned)(((1ull << shift) + d - 1) / d);
  }
  __device__ int divide(int n, int& rest) const {
    const int quotient = (int)((uint64_t)n * factor >> shift);
    rest = n - quotient * divisor;
    return quotient;
  }
};

// Places in a cache [blocks, Hkv, block size, D]; token t's keys and values go to slot slots[t].
struct Places {
  const int32_t* slots;
  int64_t count;
  Divisor block_size;

  __device__ bool hold(int64_t token) const { return slots[token] >= 0 && slots[token] < count; }
  // Where head h of `heads` begins, counted in heads' sizes.
  __device__ int64_t at(int64_t token, int heads, int h) const {
    int offset;
    const int64_t block = block_size.divide(slots[token], offset);
    return (block * heads + h) * block_size.divisor + offset;
  }
};
inline const Places NOWHERE{nullptr, 0, Divisor(1)};

inline Places places_in(const QwenvlKvCache& cache, const int32_t* slots) {
  return {slots, cache.blocks * cache.block_size, Divisor(cache.block_size)};
}

// Turns number i of a head with number i + D/2 (RoFormer, Su et al. 2021).
template <class T>
__device__ inline void turn(T& first, T& second, float cos, float sin) {
  const float a = widen(first), b = widen(second);
  first = narrow<T>(a * cos - b * sin);
  second = narrow<T>(b * cos + a * sin);
}

// Calls f(T{}) with the C++ type of a dtype; cudaErrorInvalidValue if it is none of the three.
template <class F>
inline int with_type(QwenvlDtype dtype, F f) {
  switch (dtype) {
    case QWENVL_FLOAT32: return f(float{});
    case QWENVL_FLOAT16: return f(__half{});
    case QWENVL_BFLOAT16: return f(__nv_bfloat16{});
    default: return cudaErrorInvalidValue;
  }
}

// Of the current device.
inline int attribute(cudaDeviceAttr which) {
  int device = 0, value = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, which, device);
  return value;
}

template <class... Parameters, class... Arguments>
inline int launch(void (*kernel)(Parameters...), dim3 grid, int threads, void* stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = (cudaStream_t)stream;
  return cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...);
}

// Threads of a block that has `items` to do: whole warps.
inline int threads_for(int64_t items, int most) {
  const int64_t whole = (items + WARP - 1) / WARP * WARP;
  return whole < WARP ? WARP : whole > most ? most : (int)whole;
}

// The sum of `value` over this lane and those before it in its warp.
template <class T>
__device__ inline T scan_warp(T value) {
  const int lane = threadIdx.x % WARP;
  for (int step = 1; step < WARP; step *= 2) {
    const T before = __shfl_up_sync(FULL, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

// The sum of `value` over this thread and those before it in its block; `total` becomes the whole block's.
template <class T>
__device__ inline T scan(T value, T& total) {
  __shared__ T sums[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  value = scan_warp(value);
  __syncthreads();  // whoever still reads the sums of the last call
  if (lane == WARP - 1) sums[warp] = value;
  __syncthreads();
  const T until = scan_warp(lane < warps ? sums[lane] : T(0));  // every warp for itself, without another barrier
  total = __shfl_sync(FULL, until, WARP - 1);
  return warp == 0 ? value : value + __shfl_sync(FULL, until, warp - 1);
}

template <class T>
__device__ inline T largest_of_warp(T value) {
  for (int step = WARP / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(FULL, value, step);
    value = other > value ? other : value;
  }
  return value;
}

// The largest `value` of the block, on every thread.
template <class T>
__device__ inline T largest(T value) {
  __shared__ T tops[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  value = largest_of_warp(value);
  __syncthreads();
  if (lane == 0) tops[warp] = value;
  __syncthreads();
  return largest_of_warp(lane < warps ? tops[lane] : value);
}

}  // namespace cuda
}  // namespace qwenvl
