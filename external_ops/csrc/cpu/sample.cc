// One token a row from its logits, without sorting: the cuts of top-k and top-p are found by bisection.
#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

INLINE float penalise(float logit, float penalty) { return logit > 0 ? logit / penalty : logit * penalty; }

INLINE float logit_of(const float* logits, const uint8_t* seen, float penalty, int64_t i) {
  return seen && seen[i] ? penalise(logits[i], penalty) : logits[i];
}

int64_t most_likely(const float* logits, const uint8_t* seen, float penalty, int64_t size) {
  int64_t best = 0;
  for (int64_t i = 1; i < size; ++i)
    if (logit_of(logits, seen, penalty, i) > logit_of(logits, seen, penalty, best)) best = i;
  return best;
}

// Logits to weights: penalised, divided by the temperature, and the exponential relative to the largest.
void to_weights(const float* logits, const uint8_t* seen, const QwenvlSampling& how, int64_t size, float* weights) {
  const float scale = LOG2E / how.temperature;
  float highest = -__builtin_inff();
  for (int64_t i = 0; i < size; ++i) {
    weights[i] = logit_of(logits, seen, how.repetition_penalty, i) * scale;
    highest = weights[i] > highest ? weights[i] : highest;
  }
  int64_t i = 0;
  for (; i + W <= size; i += W) store(weights + i, exp2(load(weights + i) - highest));
  if (i < size) store_part(weights + i, exp2(load_part(weights + i, size - i, highest) - highest), size - i);
}

double mass(const float* weights, int64_t size, float least) {
  double total = 0;
  for (int64_t first = 0; first < size; first += 1024) {
    vfloat part{};
    int64_t i = first;
    const int64_t end = size - first < 1024 ? size : first + 1024;
    for (; i + W <= end; i += W) {
      const vfloat w = load(weights + i);
      part += w >= least ? w : vfloat{};
    }
    total += sum(part);
    for (; i < end; ++i) total += weights[i] >= least ? weights[i] : 0.0f;
  }
  return total;
}

// The least number t in [0, 1] for which the weights above t number (or, unless `count`, add up to) less than `limit`.
// Bisects the bit patterns of floats, which are ordered as the floats are, and keeps only weights still in question.
float cut(const float* weights, int64_t size, double limit, bool count, float* scratch) {
  int64_t low = -1, high = 0x3f800000;
  double above = 0;  // what lies over `high`
  const float* from = weights;
  while (high - low > 1) {
    const int32_t middle_bits = (int32_t)(low + (high - low) / 2);
    float middle;
    __builtin_memcpy(&middle, &middle_bits, 4);
    double over = above;
    for (int64_t i = 0; i < size; ++i) over += from[i] > middle ? (count ? 1.0 : from[i]) : 0.0;
    const bool down = over < limit;
    int64_t kept = 0;
    for (int64_t i = 0; i < size; ++i) {
      const float w = from[i];
      scratch[kept] = w;
      kept += (w > middle) != down;
    }
    if (down)
      high = middle_bits, above = over;
    else
      low = middle_bits;
    from = scratch, size = kept;
  }
  const int32_t bits = (int32_t)high;
  float t;
  __builtin_memcpy(&t, &bits, 4);
  return t;
}

int64_t draw(const float* weights, int64_t size, float least, double target) {
  double cumulative = 0;
  int64_t last = 0;
  for (int64_t first = 0; first < size; first += 256) {
    const int64_t count = size - first < 256 ? size - first : 256;
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

int64_t sample_row(const float* logits, const uint8_t* seen, const QwenvlSampling& how, float uniform, int64_t size,
                   float* weights, float* scratch) {
  if (how.temperature == 0 || how.top_k == 1) return most_likely(logits, seen, how.repetition_penalty, size);
  to_weights(logits, seen, how, size, weights);
  float least = 0;
  if (how.top_k > 0 && how.top_k < size) least = cut(weights, size, (double)how.top_k, true, scratch);
  double total = mass(weights, size, least);
  if (how.top_p < 1) {
    const float by_mass = cut(weights, size, how.top_p * total, false, scratch);
    least = by_mass > least ? by_mass : least;
    total = mass(weights, size, least);
  }
  return draw(weights, size, least, uniform * total);
}

}  // namespace

void sample(const float* logits, const uint8_t* seen, const QwenvlSampling* how, const float* uniform, int64_t batch,
            int64_t vocabulary, int64_t* tokens) {
  Scratch work(2 * vocabulary * qwenvl_threads());
  const bool penalised = seen && how->repetition_penalty != 1.0f;
#pragma omp parallel for schedule(static) num_threads(qwenvl_threads()) if (batch > 1)
  for (int64_t b = 0; b < batch; ++b) {
    float* weights = work.data + 2 * vocabulary * thread_index();
    tokens[b] = sample_row(logits + b * vocabulary, penalised ? seen + b * vocabulary : nullptr, *how, uniform[b],
                           vocabulary, weights, weights + vocabulary);
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
