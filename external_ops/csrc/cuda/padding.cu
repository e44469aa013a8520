// From a padded batch to packed tokens and back.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int BLOCK = 1024;

// One block: a warp counts a row, then the block adds up.
__global__ void count_tokens(const uint8_t* mask, int64_t batch, int64_t length, int32_t* cu_seqlens) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  for (int64_t row = warp; row < batch; row += warps) {
    int32_t count = 0;
    for (int64_t i = lane; i < length; i += WARP) count += mask[row * length + i] != 0;
    for (int step = WARP / 2; step > 0; step /= 2) count += __shfl_xor_sync(FULL, count, step);
    if (lane == 0) cu_seqlens[row + 1] = count;
  }
  if (threadIdx.x == 0) cu_seqlens[0] = 0;
  __syncthreads();
  int32_t before = 0, total;
  for (int64_t first = 0; first < batch; first += blockDim.x, before += total) {
    const int64_t row = first + threadIdx.x;
    const int32_t until = scan(row < batch ? cu_seqlens[row + 1] : 0, total);
    if (row < batch) cu_seqlens[row + 1] = before + until;
  }
}

// A block lists the tokens of a row.
__global__ void token_indices(const uint8_t* mask, const int32_t* cu_seqlens, int64_t length, int64_t* indices) {
  const int64_t row = (int64_t)blockIdx.x * length;
  int64_t* next = indices + cu_seqlens[blockIdx.x];
  int32_t total;
  for (int64_t first = 0; first < length; first += blockDim.x, next += total) {
    const int64_t i = first + threadIdx.x;
    const bool real = i < length && mask[row + i] != 0;
    const int32_t until = scan((int32_t)real, total);
    if (real) next[until - 1] = row + i;
  }
}

// A block moves a row of `count` units: y[to] = x[from], or zeros where `from` is not among `rows` and SCATTER is not set.
template <class Unit, bool SCATTER>
__global__ void move_rows(const Unit* x, const int64_t* indices, int64_t rows, int64_t count, Unit* y) {
  const int64_t token = blockIdx.x, index = indices[token];
  const bool inside = index >= 0 && index < rows;
  if (SCATTER && !inside) return;
  const Unit* from = x + (SCATTER ? token : index) * count;
  Unit* to = y + (SCATTER ? index : token) * count;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) to[i] = inside ? from[i] : Unit{};
}

template <bool SCATTER>
int move(const void* x, const int64_t* indices, int64_t tokens, int64_t rows, int64_t row_bytes, void* y,
         void* stream) {
  if (tokens > INT32_MAX) return cudaErrorInvalidValue;
  auto run = [&](auto unit) {
    typedef decltype(unit) Unit;
    const int64_t count = row_bytes / sizeof(Unit);
    return launch(move_rows<Unit, SCATTER>, dim3((unsigned)tokens), threads_for(count, 512), stream, (const Unit*)x,
                  indices, rows, count, (Unit*)y);
  };
  if (packs<uint8_t>(row_bytes, {x, y})) return run(Pack<uint32_t, 4>{});
  return run(uint8_t{});
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int qwenvl_cuda_count_tokens(const uint8_t* mask, int64_t batch, int64_t length, int32_t* cu_seqlens, void* stream) {
  return launch(count_tokens, dim3(1), BLOCK, stream, mask, batch, length, cu_seqlens);
}

int qwenvl_cuda_token_indices(const uint8_t* mask, const int32_t* cu_seqlens, int64_t batch, int64_t length,
                              int64_t* indices, void* stream) {
  if (batch > INT32_MAX) return cudaErrorInvalidValue;
  return launch(token_indices, dim3((unsigned)batch), threads_for(length, BLOCK), stream, mask, cu_seqlens, length,
                indices);
}

int qwenvl_cuda_gather_rows(const void* x, const int64_t* indices, int64_t tokens, int64_t rows, int64_t row_bytes,
                            void* y, void* stream) {
  return move<false>(x, indices, tokens, rows, row_bytes, y, stream);
}

int qwenvl_cuda_scatter_rows(const void* x, const int64_t* indices, int64_t tokens, int64_t rows, int64_t row_bytes,
                             void* y, void* stream) {
  if (rows * row_bytes == 0) return cudaSuccess;
  const int error = cudaMemsetAsync(y, 0, rows * row_bytes, (cudaStream_t)stream);
  return error ? error : move<true>(x, indices, tokens, rows, row_bytes, y, stream);
}
