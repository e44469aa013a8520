// One token a row from its logits, without sorting: the cuts of top-k and top-p are found by bisection; and how probable it
// was.
#include <math.h>

#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

INLINE float penalise(float logit, float penalty) { return logit > 0 ? logit / penalty : logit * penalty; }

INLINE float logit_of(const float* logits, const uint8_t* seen, float penalty, int64_t i) {
  return seen && seen[i] ? penalise(logits[i], penalty) : logits[i];
}

float highest_of(const float* x, int64_t size) {
  vfloat highest = splat(-__builtin_inff());
  int64_t i = 0;
  for (; i + W <= size; i += W) highest = max(load(x + i), highest);
  if (i < size) highest = max(load_part(x + i, size - i, -__builtin_inff()), highest);
  return maximum(highest);
}

int64_t most_likely(const float* logits, const uint8_t* seen, float penalty, int64_t size) {
  int64_t best = 0;
  float highest = logit_of(logits, seen, penalty, 0);
  for (int64_t i = 1; i < size; ++i) {
    const float logit = logit_of(logits, seen, penalty, i);
    if (logit > highest) best = i, highest = logit;
  }
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
        const vfloat x = i + W <= end ? load(row + i) : load_part(row + i, end - i, -__builtin_inff());
        part += exp2((x - highest) * LOG2E);
      }
      total += sum(part);
    }
    y[b] = row[tokens[b]] - highest - (float)log(total);
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
