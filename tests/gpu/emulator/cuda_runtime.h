// CUDA's runtime and device functions as far as the kernels use them, for a C++ compiler: the kernels' own sources run on a
// CPU, with every thread of a block a fiber of its own (emulator.cc). Barriers and shuffles wait as they do on a GPU, and a
// wait that can never end is an error.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __shared__ static  // one block runs at a time
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrComputeCapabilityMajor = 75, cudaDevAttrComputeCapabilityMinor = 76 };
typedef struct CUstream_st* cudaStream_t;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

namespace emulator {
void wait_for_block();
// Gives `value` of up to 16 bytes to the warp's other lanes and takes what the lane `source` gives.
void exchange(const void* value, size_t size, int source, void* taken);
cudaError_t run(dim3 grid, dim3 block, const std::function<void()>& kernel);
int lane();
int processors();
int capability();

template <class T>
T shuffle(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 16);
  if (mask != 0xffffffffu) abort();
  T taken;
  exchange(&value, sizeof(T), source, &taken);
  return taken;
}
}  // namespace emulator

inline void __syncthreads() { emulator::wait_for_block(); }
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  return emulator::shuffle(mask, value, source % 32);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
  return emulator::shuffle(mask, value, emulator::lane() ^ bits);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int distance) {
  const int lane = emulator::lane();
  return emulator::shuffle(mask, value, lane < distance ? lane : lane - distance);
}

template <class T>
T atomicAdd(T* p, T value) {
  const T before = *p;
  *p += value;
  return before;
}
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = (uint64_t)y << 32 | x;
  unsigned bytes = 0;
  for (int i = 0; i < 4; ++i) bytes |= (unsigned)(both >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return bytes;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments... arguments) {
  const std::tuple<Parameters...> all(arguments...);
  return emulator::run(config->gridDim, config->blockDim, [&] { std::apply(kernel, all); });
}
inline cudaError_t cudaMemsetAsync(void* p, int value, size_t size, cudaStream_t) {
  memset(p, value, size);
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  *value = which == cudaDevAttrMultiProcessorCount          ? emulator::processors()
           : which == cudaDevAttrComputeCapabilityMajor ? emulator::capability() / 10
                                                        : emulator::capability() % 10;
  return cudaSuccess;
}
