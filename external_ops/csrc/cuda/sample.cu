// One token a row from its logits, without sorting: the cuts of top-k and top-p are found by radix selection over the
// bits of the weights, and sums of weights are kept in fixed point, so that no order of additions changes a result.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int BLOCK = 1024;
constexpr int BINS = 1024;  // a bin a thread; three times 10 bits are all bits of a float in [0, 1]
constexpr float FIXED = 17592186044416.0f;  // 2^44: a vocabulary of 2^19 weights fits 64 bits
constexpr int64_t LARGEST_VOCABULARY = 1 << 19;

typedef unsigned long long Mass;

struct Row {
  const float* logits;
  const uint8_t* seen;
  QwenvlSampling how;
  int size;

  __device__ float logit(int i) const {
    const float x = logits[i];
    if (!seen || !seen[i]) return x;
    return x > 0 ? x / how.repetition_penalty : x * how.repetition_penalty;
  }
  // In [0, 1]: the likeliest token's is 1.
  __device__ float weight(int i, float highest) const {
    const float w = exp2f((logit(i) - highest) * (LOG2E / how.temperature));
    return w > 0 ? w : 0.0f;  // not a number neither
  }
};

__device__ inline Mass fixed(float weight) { return (Mass)(weight * FIXED); }

__device__ int most_likely(const Row& row) {
  Mass best = 0;  // the logit in the order of unsigned numbers, then the complement of the index: the first of equals wins
  for (int i = threadIdx.x; i < row.size; i += BLOCK) {
    const unsigned bits = __float_as_uint(row.logit(i)), order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    const Mass key = (Mass)order << 32 | (unsigned)~i;
    best = key > best ? key : best;
  }
  return (int)~(unsigned)largest(best);
}

__device__ float highest_logit(const Row& row) {
  float top = -INFINITY;
  for (int i = threadIdx.x; i < row.size; i += BLOCK) top = fmaxf(top, row.logit(i));
  return largest(top);
}

// The least number t for which the weights above t number (or, unless COUNT, add up to) less than `limit`, which is at
// least 1 and at most what all of them come to. It is one of the weights.
template <bool COUNT>
__device__ float cut(const Row& row, float highest, Mass limit) {
  __shared__ Mass bins[BINS];
  __shared__ unsigned chosen;
  __shared__ Mass over_chosen;
  unsigned prefix = 0;
  Mass above = 0;
  for (int shift = 20; shift >= 0; shift -= 10) {
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < row.size; i += BLOCK) {
      const float w = row.weight(i, highest);
      const unsigned bits = __float_as_uint(w);
      if (bits >> shift >> 10 == prefix) atomicAdd(&bins[bits >> shift & (BINS - 1)], COUNT ? 1 : fixed(w));
    }
    __syncthreads();
    const int bin = BINS - 1 - threadIdx.x;  // from the top
    Mass all;
    const Mass own = bins[bin], until = above + scan(own, all);
    if (until - own < limit && until >= limit) chosen = bin, over_chosen = until - own;
    __syncthreads();
    prefix = prefix << 10 | chosen;
    above = over_chosen;
  }
  return __uint_as_float(prefix);
}

// The first token at which the weights of at least `least` add up to more than `uniform` of their sum.
__device__ int draw(const Row& row, float highest, float least, float uniform) {
  __shared__ Mass masses[WARP];
  __shared__ int drawn;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int part = (row.size + WARP - 1) / WARP;  // tokens of a warp
  auto mass = [&](int i) {
    const float w = row.weight(i, highest);
    return w >= least ? fixed(w) : 0;
  };
  Mass own = 0;
  for (int i = lane; i < part && warp * part + i < row.size; i += WARP) own += mass(warp * part + i);
  for (int step = WARP / 2; step > 0; step /= 2) own += __shfl_xor_sync(FULL, own, step);
  if (lane == 0) masses[warp] = own;
  if (threadIdx.x == 0) drawn = 0;
  __syncthreads();
  Mass total = 0;
  for (int w = 0; w < WARP; ++w) total += masses[w];
  Mass target = (Mass)((double)uniform * (double)total);
  if (total && target >= total) target = total - 1;
  int chosen = 0;  // the warp whose tokens hold the target
  for (; chosen < WARP - 1 && masses[chosen] <= target; ++chosen) target -= masses[chosen];

  const int each = (part + BLOCK - 1) / BLOCK, begin = chosen * part + threadIdx.x * each;
  int end = begin + each < (chosen + 1) * part ? begin + each : (chosen + 1) * part;
  end = end < row.size ? end : row.size;
  own = 0;
  for (int i = begin; i < end; ++i) own += mass(i);
  Mass all;
  Mass until = scan(own, all) - own;
  if (until <= target && target < until + own)
    for (int i = begin; i < end; ++i)
      if ((until += mass(i)) > target) {
        drawn = i;
        break;
      }
  __syncthreads();
  return drawn;
}

// A block draws a row's token.
__global__ void __launch_bounds__(BLOCK) sample(const float* logits, const uint8_t* seen, QwenvlSampling how,
                                                const float* uniform, int vocabulary, int64_t* tokens) {
  const int64_t offset = (int64_t)blockIdx.x * vocabulary;
  const Row row{logits + offset, seen ? seen + offset : nullptr, how, vocabulary};
  int token;
  if (how.temperature == 0 || how.top_k == 1) {
    token = most_likely(row);
  } else {
    const float highest = highest_logit(row);
    float least = 0;
    if (how.top_k > 0 && how.top_k < vocabulary) least = cut<true>(row, highest, how.top_k);
    if (how.top_p < 1) {
      Mass own = 0, total;
      for (int i = threadIdx.x; i < vocabulary; i += BLOCK) {
        const float w = row.weight(i, highest);
        own += w >= least ? fixed(w) : 0;
      }
      scan(own, total);
      const Mass share = (Mass)((double)how.top_p * (double)total), limit = share > 1 ? share : 1;
      if (total) least = fmaxf(least, cut<false>(row, highest, limit < total ? limit : total));
    }
    token = draw(row, highest, least, uniform[blockIdx.x]);
  }
  if (threadIdx.x == 0) tokens[blockIdx.x] = token;
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int qwenvl_cuda_sample(const float* logits, const uint8_t* seen, const QwenvlSampling* how, const float* uniform,
                       int64_t batch, int64_t vocabulary, int64_t* tokens, void* stream) {
  if (vocabulary < 1 || vocabulary > LARGEST_VOCABULARY || batch > INT32_MAX) return cudaErrorInvalidValue;
  return launch(sample, dim3((unsigned)batch), BLOCK, stream, logits, how->repetition_penalty == 1 ? nullptr : seen,
                *how, uniform, (int)vocabulary, tokens);
}
