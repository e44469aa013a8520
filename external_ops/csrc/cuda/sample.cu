// One token a row from its logits, without sorting: the cuts of top-k and top-p are found by radix selection over the
// bits of the weights, and sums of weights are kept in fixed point, so that no order of additions changes a result.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int BLOCK = 1024;
constexpr int BINS = 1024;  // a bin a thread; three times 10 bits are all bits of a float in [0, 1]
constexpr float FIXED = 17592186044416.0f;  // 2^44: a vocabulary of 2^19 weights fits 64 bits
constexpr float LARGEST = 3e38f;  // of logits that have to be numbers, and of what they are multiplied by
constexpr int64_t LARGEST_VOCABULARY = 1 << 19;

typedef unsigned long long Mass;

struct Row {
  const float* logits;
  const int32_t* allowed;  // null for all
  int size;
  float highest, scale;

  __device__ float logit(int i) const {
    if (!allowed) return logits[i];
    // All that is allowed is a number, because one of it has to be drawn.
    return (unsigned)allowed[i / 32] >> i % 32 & 1 ? fmaxf(logits[i], -LARGEST) : -INFINITY;
  }
  // In [0, 1]: the likeliest token's is 1.
  __device__ float weight(int i) const {
    const float w = exp2f((logit(i) - highest) * scale);
    return w > 0 ? w : 0.0f;  // not a number neither
  }
};

__device__ inline Mass fixed(float weight) { return (Mass)(weight * FIXED); }

__device__ bool allows_any(const int32_t* allowed, int size) {
  unsigned any = 0;
  for (int word = threadIdx.x; word * 32 < size; word += BLOCK) {
    const int left = size - word * 32;
    any |= (unsigned)allowed[word] & (left < 32 ? (1u << left) - 1 : FULL);
  }
  return largest(any) != 0;
}

// Row b's logits with its marks: a copy, where it has any.
__device__ const float* marked(const float* logits, const QwenvlSampling& how, const QwenvlTokenMarks& marks, int b,
                               int size, float* copy) {
  const int64_t begin = marks.offsets[b] > 0 ? marks.offsets[b] : 0;
  const int64_t end = marks.offsets[b + 1] < marks.size ? marks.offsets[b + 1] : marks.size;
  if (begin >= end) return logits;
  for (int i = threadIdx.x; i < size; i += BLOCK) copy[i] = logits[i];
  __syncthreads();
  for (int64_t m = begin + threadIdx.x; m < end; m += BLOCK) {
    const int token = marks.tokens[m], count = marks.counts[m];
    if (token < 0 || token >= size) continue;
    float x = logits[token] + marks.bias[m];
    if (count >= 0) x = x > 0 ? x / how.repetition_penalty : x * how.repetition_penalty;
    if (count > 0) x -= how.presence_penalty + how.frequency_penalty * (float)count;
    copy[token] = x;
  }
  __syncthreads();
  return copy;
}

__device__ int most_likely(const Row& row) {
  Mass best = 0;  // the logit in the order of unsigned numbers, then the complement of the index: the first of equals wins
  for (int i = threadIdx.x; i < row.size; i += BLOCK) {
    const float x = row.logit(i);
    const unsigned bits = __float_as_uint(x == x ? x + 0.0f : -INFINITY);  // minus zero is zero
    const unsigned order = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    const Mass key = (Mass)order << 32 | (unsigned)~i;
    best = key > best ? key : best;
  }
  return (int)~(unsigned)largest(best);
}

// What the weights of at least `least` add up to.
__device__ Mass mass(const Row& row, float least) {
  Mass own = 0, total;
  for (int i = threadIdx.x; i < row.size; i += BLOCK) {
    const float w = row.weight(i);
    own += w >= least ? fixed(w) : 0;
  }
  scan(own, total);
  return total;
}

// The least number t for which the weights above t number (or, unless COUNT, add up to) less than `limit`, which is at
// least 1 and at most what all of them come to. It is one of the weights.
template <bool COUNT>
__device__ float cut(const Row& row, Mass limit) {
  __shared__ Mass bins[BINS];
  __shared__ unsigned chosen;
  __shared__ Mass over_chosen;
  unsigned prefix = 0;
  Mass above = 0;
  for (int shift = 20; shift >= 0; shift -= 10) {
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < row.size; i += BLOCK) {
      const float w = row.weight(i);
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
__device__ int draw(const Row& row, float least, float uniform) {
  __shared__ Mass masses[WARP];
  __shared__ int drawn;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int part = (row.size + WARP - 1) / WARP;  // tokens of a warp
  auto kept = [&](int i) {
    const float w = row.weight(i);
    return w >= least ? fixed(w) : 0;
  };
  Mass own = 0;
  for (int i = lane; i < part && warp * part + i < row.size; i += WARP) own += kept(warp * part + i);
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
  for (int i = begin; i < end; ++i) own += kept(i);
  Mass all;
  Mass until = scan(own, all) - own;
  if (until <= target && target < until + own)
    for (int i = begin; i < end; ++i)
      if ((until += kept(i)) > target) {
        drawn = i;
        break;
      }
  __syncthreads();
  return drawn;
}

__device__ int sample_row(Row row, const QwenvlSampling& how, float uniform) {
  const int best = most_likely(row);
  if (how.temperature == 0 || how.top_k == 1) return best;
  row.highest = row.logit(best);
  row.scale = fminf(LOG2E / how.temperature, LARGEST);
  Mass total = mass(row, 0);
  if (total <= fixed(1)) return best;  // nothing else is possible
  float least = 0;
  if (how.top_k > 0 && how.top_k < row.size) {
    least = cut<true>(row, (Mass)how.top_k);
    total = mass(row, least);
  }
  if (how.top_p < 1) {
    const Mass share = (Mass)((double)how.top_p * (double)total);
    least = fmaxf(least, cut<false>(row, share > 1 ? share : 1));
  }
  return draw(row, fmaxf(least, how.min_p), uniform);
}

// The logarithm of a token's probability under softmax(logits), in float32 as the definition.
__device__ float log_probability(const float* logits, int size, int token) {
  float highest = -INFINITY, own = 0, total;
  for (int i = threadIdx.x; i < size; i += BLOCK) highest = fmaxf(highest, logits[i]);
  highest = largest(highest);
  for (int i = threadIdx.x; i < size; i += BLOCK) own += exp2f((logits[i] - highest) * LOG2E);
  scan(own, total);
  return logits[token] - highest - logf(total);
}

// A block draws a row's token.
__global__ void __launch_bounds__(BLOCK) sample(const float* logits, const QwenvlSampling* settings,
                                                const float* uniform, QwenvlTokenMarks marks, const int32_t* allowed,
                                                int vocabulary, float* scratch, int64_t* tokens, float* log_probabilities) {
  const int b = blockIdx.x;
  const int64_t offset = (int64_t)b * vocabulary;
  const QwenvlSampling how = settings[b];
  Row row{logits + offset, nullptr, vocabulary, 0, 0};
  if (marks.offsets) row.logits = marked(row.logits, how, marks, b, vocabulary, scratch + offset);
  if (allowed) {
    allowed += (int64_t)b * ((vocabulary + 31) / 32);
    if (allows_any(allowed, vocabulary)) row.allowed = allowed;
  }
  const int token = sample_row(row, how, uniform[b]);
  const float log = log_probability(logits + offset, vocabulary, token);
  if (threadIdx.x == 0) tokens[b] = token, log_probabilities[b] = log;
}

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int qwenvl_cuda_sample(const float* logits, const QwenvlSampling* settings, const float* uniform,
                       const QwenvlTokenMarks* marks, const int32_t* allowed, int64_t batch, int64_t vocabulary,
                       float* scratch, int64_t* tokens, float* log_probabilities, void* stream) {
  if (vocabulary < 1 || vocabulary > LARGEST_VOCABULARY || batch > INT32_MAX) return cudaErrorInvalidValue;
  return launch(sample, dim3((unsigned)batch), BLOCK, stream, logits, settings, uniform,
                marks ? *marks : QwenvlTokenMarks{}, allowed, (int)vocabulary, scratch, tokens, log_probabilities);
}
