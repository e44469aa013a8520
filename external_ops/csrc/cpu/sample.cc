// One token a row from its logits, without sorting: the cuts of top-k and top-p are found by bisection; and how probable it
// was.
#include <math.h>

#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

constexpr float INFINITE = __builtin_inff();
constexpr float LARGEST = 3e38f;  // of logits that have to be numbers, and of what they are multiplied by
constexpr int64_t PART = 1024;  // floats that are added up in float32, or looked at together

INLINE int64_t least_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE float larger(float a, float b) { return a > b ? a : b; }

float highest_of(const float* x, int64_t size) {
  vfloat highest = splat(-INFINITE);
  int64_t i = 0;
  for (; i + W <= size; i += W) highest = max(load(x + i), highest);
  if (i < size) highest = max(load_part(x + i, size - i, -INFINITE), highest);
  return maximum(highest);
}

// The first of the largest.
int64_t most_likely(const float* x, int64_t size) {
  float highest = -INFINITE;
  int64_t part = 0;
  for (int64_t first = 0; first < size; first += PART) {
    const float here = highest_of(x + first, least_of(PART, size - first));
    if (here > highest) highest = here, part = first;
  }
  for (int64_t i = part; i < size; ++i)
    if (x[i] == highest) return i;
  return 0;
}

INLINE float marked(float logit, int32_t count, float bias, const QwenvlSampling& how) {
  logit += bias;
  if (count >= 0) logit = logit > 0 ? logit / how.repetition_penalty : logit * how.repetition_penalty;
  return count > 0 ? logit - (how.presence_penalty + how.frequency_penalty * count) : logit;
}

bool allows_any(const int32_t* allowed, int64_t size) {
  uint32_t any = 0;
  for (int64_t word = 0; word < size / 32; ++word) any |= allowed[word];
  if (size % 32) any |= allowed[size / 32] & ((1u << size % 32) - 1);
  return any != 0;
}

// Minus infinity for what is not allowed; all else becomes a number, because one of it has to be drawn.
void restrict_to(const int32_t* allowed, int64_t size, float* x) {
  vuint lane;
  for (int i = 0; i < W; ++i) lane[i] = 1u << i;
  for (int64_t i = 0; i < size; i += W) {
    const int64_t count = least_of(W, size - i);
    const vuint bits = ((uint32_t)allowed[i / 32] >> i % 32) - vuint{};
    const vfloat from = count == W ? load(x + i) : load_part(x + i, count);
    const vfloat to = (bits & lane) != 0 ? max(from, splat(-LARGEST)) : splat(-INFINITE);
    if (count == W)
      store(x + i, to);
    else
      store_part(x + i, to, count);
  }
}

// Logits to weights, the largest logit's 1.
void to_weights(const float* logits, float highest, float temperature, int64_t size, float* weights) {
  const float scale = LOG2E / temperature < LARGEST ? LOG2E / temperature : LARGEST;
  int64_t i = 0;
  for (; i + W <= size; i += W) store(weights + i, exp2((load(logits + i) - highest) * scale));
  if (i < size) store_part(weights + i, exp2((load_part(logits + i, size - i, highest) - highest) * scale), size - i);
}

// What the weights of at least `least` add up to, or how many they are.
template <bool COUNT = false>
double mass(const float* weights, int64_t size, float least) {
  double total = 0;
  for (int64_t first = 0; first < size; first += PART) {
    vfloat part{};
    const int64_t end = least_of(first + PART, size);
    for (int64_t i = first; i < end; i += W) {
      const vfloat w = i + W <= end ? load(weights + i) : load_part(weights + i, end - i, -1);
      part += w >= least ? (COUNT ? splat(1) : w) : vfloat{};
    }
    total += sum(part);
  }
  return total;
}

// The largest t in [0, 1] for which the weights of at least t number (or, unless COUNT, add up to) at least `limit`.
// Bisects the bit patterns of floats, which are ordered as the floats are.
template <bool COUNT>
float cut(const float* weights, int64_t size, double limit) {
  int32_t low = 0, high = 0x3f800001;  // after 1
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    float least;
    __builtin_memcpy(&least, &middle, 4);
    (mass<COUNT>(weights, size, least) < limit ? high : low) = middle;
  }
  float t;
  __builtin_memcpy(&t, &low, 4);
  return t;
}

// The first token at which the weights of at least `least` add up to more than `target`.
int64_t draw(const float* weights, int64_t size, float least, double target) {
  double cumulative = 0;
  int64_t last = 0;
  for (int64_t first = 0; first < size; first += 256) {
    const int64_t count = least_of(256, size - first);
    const double block = mass(weights + first, count, least);
    if (cumulative + block <= target) {
      cumulative += block;
      continue;
    }
    for (int64_t i = first; i < first + count; ++i)
      if (weights[i] >= least && weights[i] > 0) {
        last = i;
        if ((cumulative += weights[i]) > target) return i;
      }
  }
  return last;
}

int64_t sample_row(const float* logits, const QwenvlSampling& how, float uniform, int64_t size, float* weights) {
  const int64_t best = most_likely(logits, size);
  if (how.temperature == 0 || how.top_k == 1 || !(logits[best] > -INFINITE)) return best;
  to_weights(logits, logits[best], how.temperature, size, weights);
  double total = mass(weights, size, 0);
  if (total <= 1) return best;  // nothing else is possible
  float least = 0;
  if (how.top_k > 0 && how.top_k < size) {
    least = cut<true>(weights, size, how.top_k);
    total = mass(weights, size, least);
  }
  if (how.top_p < 1) least = larger(least, cut<false>(weights, size, how.top_p * total));
  least = larger(least, how.min_p);
  return draw(weights, size, least, uniform * mass(weights, size, least));
}

}  // namespace

void sample(const float* logits, const QwenvlSampling* settings, const float* uniform, const QwenvlTokenMarks* marks,
            const int32_t* allowed, int64_t batch, int64_t vocabulary, int64_t* tokens) {
  Scratch work(vocabulary * qwenvl_threads());
  const int64_t words = (vocabulary + 31) / 32;
#pragma omp parallel for schedule(monotonic : dynamic) num_threads(qwenvl_threads()) if (batch > 1)
  for (int64_t b = 0; b < batch; ++b) {
    const float* row = logits + b * vocabulary;
    float* own = work.data + vocabulary * thread_index();
    const int32_t begin = marks ? marks->offsets[b] : 0, end = marks ? marks->offsets[b + 1] : 0;
    const bool restricted = allowed && allows_any(allowed + b * words, vocabulary);
    if (begin < end || restricted) {
      memcpy(own, row, vocabulary * sizeof(float));
      for (int32_t i = begin; i < end; ++i)
        own[marks->tokens[i]] = marked(row[marks->tokens[i]], marks->counts[i], marks->bias[i], settings[b]);
      if (restricted) restrict_to(allowed + b * words, vocabulary, own);
      row = own;
    }
    tokens[b] = sample_row(row, settings[b], uniform[b], vocabulary, own);
  }
}

void log_probability(const float* logits, const int64_t* tokens, int64_t batch, int64_t vocabulary, float* y) {
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads()) if (batch > 1)
  for (int64_t b = 0; b < batch; ++b) {
    const float* row = logits + b * vocabulary;
    const float highest = highest_of(row, vocabulary);
    double total = 0;
    for (int64_t first = 0; first < vocabulary; first += 1024) {
      vfloat part{};
      const int64_t end = vocabulary - first < 1024 ? vocabulary : first + 1024;
      for (int64_t i = first; i < end; i += W) {
        const vfloat x = i + W <= end ? load(row + i) : load_part(row + i, end - i, -INFINITE);
        part += x == x ? exp2((x - highest) * LOG2E) : x;  // NaN shows
      }
      total += sum(part);
    }
    y[b] = row[tokens[b]] - highest - (float)log(total);
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
