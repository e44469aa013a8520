// One token a row from its logits, without sorting: the cuts of top-k and top-p are found by radix selection over the
// bits of the weights, and sums of weights are kept in fixed point, so that no order of additions changes a result.
//
// A block has a part of a row. What depends on the whole row, its likeliest token, the next bits of a cut, the mass to draw
// from, is left to the launch after the one that has looked at every part. Blocks return if a row's settings want nothing.
#include "device.h"

namespace qwenvl {
namespace cuda {
namespace {

constexpr int BLOCK = 1024;
constexpr int EACH = 8;  // tokens of a thread
constexpr int PART = BLOCK * EACH;
constexpr int BITS = 10;  // of a cut that a round finds; three times 10 are all bits of a float in [0, 1]
constexpr int BINS = 1 << BITS;  // a bin a thread
constexpr int ROUNDS = 5;  // one for the first bits of both cuts, two for the others of top-k's, two for those of top-p's
constexpr float FIXED = 17592186044416.0f;  // 2^44: a vocabulary of 2^19 weights fits 64 bits
constexpr float LARGEST = 3e38f;  // of logits that have to be numbers, and of what they are multiplied by
constexpr float LOWEST = -3.40282347e38f;
constexpr int INDEX_BITS = 19;
constexpr int LARGEST_VOCABULARY = 1 << INDEX_BITS;
constexpr unsigned SIGN = 0x80000000u;

typedef unsigned long long Mass;

// How many weights fall in each bin, and what they add up to. Weights of zero are left out.
struct Bins {
  Mass masses[BINS];
  unsigned counts[BINS];
};

// What is known of a cut: the least weight above which weights number, or add up to, less than a limit.
struct Cut {
  unsigned bits;  // its upper ones
  Mass left;      // of the limit, without the weights above all that begin with these bits
};

struct State {  // of a row
  Bins bins[ROUNDS];
  Cut cuts[ROUNDS];  // with whose bits the weights in a round's bins begin
  float least;       // weight that is kept
};

struct Partial {  // of a part
  Mass key;       // its largest
  Mass kept;      // what the weights that are kept add up to
  float highest;  // logit
  float exponentials;  // of all logits less that one, added up
};

struct Batch {
  const float* logits;
  const QwenvlSampling* settings;
  const float* uniform;
  QwenvlTokenMarks marks;
  const int32_t* allowed;
  int vocabulary, parts;
  State* states;
  Partial* partials;     // [batch, parts]
  float* marked_logits;  // [batch, vocabulary], of rows that have marks
  int64_t* tokens;
  float* log_probabilities;

  __device__ State& state() const { return states[blockIdx.x]; }
  __device__ int64_t first() const { return (int64_t)blockIdx.x * vocabulary; }
  __device__ int64_t first_mark() const { return marks.offsets[blockIdx.x] > 0 ? marks.offsets[blockIdx.x] : 0; }
  __device__ int64_t end_of_marks() const {
    return marks.offsets[blockIdx.x + 1] < marks.size ? marks.offsets[blockIdx.x + 1] : marks.size;
  }
  __device__ bool marked() const { return marks.offsets && first_mark() < end_of_marks(); }
  // A part's for each thread, and nothing for threads that are left over.
  __device__ Partial partial() const {
    if ((int)threadIdx.x >= parts) return {0, 0, LOWEST, 0};
    return partials[(int64_t)blockIdx.x * parts + threadIdx.x];
  }
};

__device__ inline Mass fixed(float weight) { return (Mass)(weight * FIXED); }
__device__ inline Mass kept(float weight, float least) { return weight >= least ? fixed(weight) : 0; }

struct Row {
  QwenvlSampling how;
  const float* logits;     // with their marks
  const int32_t* allowed;  // null for all
  int size, best;
  float highest, scale;

  __device__ explicit Row(const Batch& a)
      : how(a.settings[blockIdx.x]),
        logits((a.marked() ? a.marked_logits : a.logits) + a.first()),
        allowed(a.allowed ? a.allowed + (int64_t)blockIdx.x * ((a.vocabulary + 31) / 32) : nullptr),
        size(a.vocabulary),
        scale(fminf(LOG2E / how.temperature, LARGEST)) {}

  __device__ bool greedy() const { return how.temperature == 0 || how.top_k == 1; }
  __device__ bool cuts_count() const { return !greedy() && how.top_k > 1 && how.top_k < size; }
  __device__ bool cuts_mass() const { return !greedy() && how.top_p < 1; }
  __device__ bool needs(int round) const {
    return (round < 3 && cuts_count()) || ((round == 0 || round >= 3) && cuts_mass());
  }

  __device__ bool allows(int i) const { return (unsigned)allowed[i / 32] >> i % 32 & 1; }
  // All that is allowed is a number, because one of it has to be drawn.
  __device__ float number(int i) const { return fmaxf(logits[i], -LARGEST); }
  // The likeliest token has the largest: whether it is allowed, then its logit in the order of unsigned numbers, then the
  // complement of its index, so that the first of equals wins.
  __device__ Mass key(int i) const {
    const bool may = allowed && allows(i);
    const float x = may ? number(i) : logits[i];
    const unsigned bits = __float_as_uint(x == x ? x + 0.0f : -INFINITY);  // minus zero is zero
    const unsigned order = bits & SIGN ? ~bits : bits | SIGN;
    return ((Mass)may << 32 | order) << INDEX_BITS | (unsigned)(LARGEST_VOCABULARY - 1 - i);
  }
  // Takes the likeliest token from the row's largest key. If that one is not allowed, none is, which means all.
  __device__ void settle(Mass key) {
    const unsigned order = (unsigned)(key >> INDEX_BITS);
    best = LARGEST_VOCABULARY - 1 - (int)(key % LARGEST_VOCABULARY);
    highest = __uint_as_float(order & SIGN ? order ^ SIGN : ~order);
    if (!(key >> INDEX_BITS >> 32)) allowed = nullptr;
  }

  // In [0, 1]: the likeliest token's is 1.
  __device__ float weight(int i) const {
    const float x = !allowed ? logits[i] : allows(i) ? number(i) : -INFINITY;
    const float w = exp2f((x - highest) * scale);
    return w > 0 ? w : 0.0f;  // not a number neither
  }
  // Of EACH tokens that lie `step` apart, all read at once; zero for those that there are not.
  __device__ void weights(int first, int step, float (&w)[EACH]) const {
#pragma unroll
    for (int e = 0; e < EACH; ++e) w[e] = first + e * step < size ? weight(first + e * step) : 0.0f;
  }
};

// The first token of this thread in its block's part; the others are BLOCK apart.
__device__ inline int first_token() { return blockIdx.y * PART + threadIdx.x; }

// Copies the part and changes what has marks.
__device__ void mark(const Batch& a, const QwenvlSampling& how) {
  const float* logits = a.logits + a.first();
  float* copy = a.marked_logits + a.first();
  const int begin = blockIdx.y * PART, end = begin + PART < a.vocabulary ? begin + PART : a.vocabulary;
  for (int i = first_token(); i < end; i += BLOCK) copy[i] = logits[i];
  __syncthreads();
  for (int64_t m = a.first_mark() + threadIdx.x; m < a.end_of_marks(); m += BLOCK) {
    const int token = a.marks.tokens[m];
    if (token < begin || token >= end) continue;
    const int count = a.marks.counts[m];
    float x = logits[token] + a.marks.bias[m];
    if (count >= 0) x = x > 0 ? x / how.repetition_penalty : x * how.repetition_penalty;
    if (count > 0) x -= how.presence_penalty + how.frequency_penalty * (float)count;
    copy[token] = x;
  }
  __syncthreads();
}

__device__ void sum_exponentials(const float* logits, int size, Partial& part) {
  float x[EACH], highest = LOWEST, own = 0;
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const int i = first_token() + e * BLOCK;
    x[e] = i < size ? logits[i] : -INFINITY;
    highest = fmaxf(highest, x[e]);
  }
  part.highest = largest(highest);
#pragma unroll
  for (int e = 0; e < EACH; ++e) own += exp2f((x[e] - part.highest) * LOG2E);
  scan(own, part.exponentials);
}

// The likeliest token of a part and what its logits add to the softmax; empty bins for the rounds.
__global__ void __launch_bounds__(BLOCK) survey(Batch a) {
  const Row row(a);
  Partial part;
  sum_exponentials(a.logits + a.first(), a.vocabulary, part);
  if (a.marked()) mark(a, row.how);
  Mass best = 0;
#pragma unroll
  for (int e = 0; e < EACH; ++e) {  // reads what the L1 cache still holds
    const int i = first_token() + e * BLOCK;
    const Mass key = i < row.size ? row.key(i) : 0;
    best = key > best ? key : best;
  }
  part.key = largest(best);
  if (threadIdx.x == 0) a.partials[(int64_t)blockIdx.x * a.parts + blockIdx.y] = part;
  if (!row.needs(0)) return;
  for (int round = blockIdx.y; round < ROUNDS; round += a.parts) {
    a.state().bins[round].masses[threadIdx.x] = 0;
    a.state().bins[round].counts[threadIdx.x] = 0;
  }
}

// A cut and its next bits, from the bins of the weights that begin with those it has.
__device__ Cut refine(const Cut& cut, const Bins& bins, bool by_count) {
  __shared__ Cut refined;
  const int bin = BINS - 1 - threadIdx.x;  // from the top
  const Mass own = by_count ? bins.counts[bin] : bins.masses[bin];
  Mass all;
  const Mass over = scan(own, all) - own;
  // The zeros that are in no bin belong to the last one.
  if (over < cut.left && (cut.left <= over + own || bin == 0)) refined = {cut.bits << BITS | bin, cut.left - over};
  __syncthreads();
  return refined;
}

// A cut and the bits that a round has found for it.
__device__ Cut after(int round, const State& state) {
  return refine(state.cuts[round], state.bins[round], round < 3);
}

// What the weights that top-k keeps add up to: in each of its rounds those in the bins above the cut's, and last the cut's.
__device__ Mass mass_of_top_k(const Row& row, const State& state) {
  Mass own = state.bins[0].masses[threadIdx.x], all;
  if (row.cuts_count()) {
    const unsigned cut = after(2, state).bits;
    own = 0;
    for (int round = 0; round < 3; ++round) {
      const unsigned bin = cut >> (2 - round) * BITS & (BINS - 1);
      if (threadIdx.x > bin || (round == 2 && threadIdx.x == bin)) own += state.bins[round].masses[threadIdx.x];
    }
  }
  scan(own, all);
  return all;
}

// The cut that a round goes on with; after the last one the least weight that is kept. Top-p's is never below top-k's.
__device__ Cut cut_before(int round, const Row& row, const State& state) {
  switch (round) {
    case 0: return {0, 0};
    case 1: return refine({0, (Mass)row.how.top_k}, state.bins[0], true);
    case 3: {
      const Mass share = (Mass)((double)row.how.top_p * (double)mass_of_top_k(row, state));
      return refine({0, share > 1 ? share : 1}, state.bins[0], false);
    }
    case ROUNDS: return row.cuts_mass() ? after(4, state) : row.cuts_count() ? after(2, state) : Cut{0, 0};
    default: return after(round - 1, state);
  }
}

// To a sum of 64 bits in shared memory, where atomic additions have 32.
__device__ inline void add(unsigned& low, unsigned& high, Mass x) {
  const unsigned before = atomicAdd(&low, (unsigned)x), carry = before + (unsigned)x < before;
  if (x >> 32 || carry) atomicAdd(&high, (unsigned)(x >> 32) + carry);
}

// Adds a part's weights that begin with a cut's bits to the bins of their next ones.
__device__ void fill(Bins& bins, const Row& row, unsigned upper, int shift) {
  __shared__ unsigned counts[BINS], lows[BINS], highs[BINS];
  counts[threadIdx.x] = lows[threadIdx.x] = highs[threadIdx.x] = 0;
  float w[EACH];
  row.weights(first_token(), BLOCK, w);
  __syncthreads();
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const unsigned bits = __float_as_uint(w[e]), bin = bits >> shift & (BINS - 1);
    if (!bits || bits >> shift >> BITS != upper) continue;
    atomicAdd(&counts[bin], 1u);
    add(lows[bin], highs[bin], fixed(w[e]));
  }
  __syncthreads();
  if (!counts[threadIdx.x]) return;
  atomicAdd(&bins.counts[threadIdx.x], counts[threadIdx.x]);
  atomicAdd(&bins.masses[threadIdx.x], (Mass)highs[threadIdx.x] << 32 | lows[threadIdx.x]);
}

__global__ void __launch_bounds__(BLOCK) narrow_cut(Batch a, int round) {
  Row row(a);
  if (!row.needs(round)) return;
  row.settle(largest(a.partial().key));
  State& state = a.state();
  const Cut cut = cut_before(round, row, state);
  if (blockIdx.y == 0 && threadIdx.x == 0) state.cuts[round] = cut;
  fill(state.bins[round], row, cut.bits, round == 0 ? 2 * BITS : round % 2 * BITS);
}

// The mass of what is kept of a part.
__global__ void __launch_bounds__(BLOCK) weigh(Batch a) {
  Row row(a);
  if (row.greedy()) return;
  row.settle(largest(a.partial().key));
  const float least = fmaxf(__uint_as_float(cut_before(ROUNDS, row, a.state()).bits), row.how.min_p);
  float w[EACH];
  row.weights(first_token(), BLOCK, w);
  Mass own = 0, mass;
#pragma unroll
  for (int e = 0; e < EACH; ++e) own += kept(w[e], least);
  scan(own, mass);
  if (threadIdx.x > 0) return;
  a.partials[(int64_t)blockIdx.x * a.parts + blockIdx.y].kept = mass;
  if (blockIdx.y == 0) a.state().least = least;
}

// The first token at which what is kept adds up to more than `uniform` of it all, where thread p gives the mass of part p.
__device__ int drawn(const Row& row, Mass mass, float least, float uniform) {
  __shared__ int part, token;
  __shared__ Mass rest;
  if (threadIdx.x == 0) part = 0, rest = 0, token = row.best;  // which stays if nothing is kept
  Mass total;
  const Mass before = scan(mass, total) - mass;
  Mass target = (Mass)((double)uniform * (double)total);
  if (total && target >= total) target = total - 1;
  if (before <= target && target < before + mass) part = threadIdx.x, rest = target - before;
  __syncthreads();
  const int first = part * PART + threadIdx.x * EACH;
  float w[EACH];
  row.weights(first, 1, w);
  Mass own = 0, all;
#pragma unroll
  for (int e = 0; e < EACH; ++e) own += kept(w[e], least);
  Mass until = scan(own, all) - own;
#pragma unroll
  for (int e = 0; e < EACH; ++e) {
    const Mass next = until + kept(w[e], least);
    if (until <= rest && rest < next) token = first + e;
    until = next;
  }
  __syncthreads();
  return token;
}

// A block a row: its token, and that one's logarithm under softmax(logits), in float32 as the definition.
__global__ void __launch_bounds__(BLOCK) draw(Batch a) {
  Row row(a);
  const Partial part = a.partial();
  row.settle(largest(part.key));
  const int token = row.greedy() ? row.best : drawn(row, part.kept, a.state().least, a.uniform[blockIdx.x]);
  const float highest = largest(part.highest);
  float sum;
  scan(part.exponentials * exp2f((part.highest - highest) * LOG2E), sum);
  if (threadIdx.x > 0) return;
  a.tokens[blockIdx.x] = token;
  a.log_probabilities[blockIdx.x] = a.logits[a.first() + token] - highest - logf(sum);
}

int64_t parts_of(int64_t vocabulary) { return (vocabulary + PART - 1) / PART; }

}  // namespace
}  // namespace cuda
}  // namespace qwenvl

using namespace qwenvl::cuda;

int64_t qwenvl_cuda_sample_scratch(const QwenvlTokenMarks* marks, int64_t batch, int64_t vocabulary) {
  const int64_t partials = parts_of(vocabulary) * (int64_t)sizeof(Partial);
  return batch * ((int64_t)sizeof(State) + partials + (marks ? vocabulary * (int64_t)sizeof(float) : 0));
}

int qwenvl_cuda_sample(const float* logits, const QwenvlSampling* settings, const float* uniform,
                       const QwenvlTokenMarks* marks, const int32_t* allowed, int64_t batch, int64_t vocabulary,
                       void* scratch, int64_t* tokens, float* log_probabilities, void* stream) {
  if (vocabulary < 1 || vocabulary > LARGEST_VOCABULARY || batch > INT32_MAX) return cudaErrorInvalidValue;
  const int64_t parts = parts_of(vocabulary);
  State* states = (State*)scratch;
  Partial* partials = (Partial*)(states + batch);
  float* marked_logits = (float*)(partials + batch * parts);
  const Batch a{logits,     settings, uniform,  marks ? *marks : QwenvlTokenMarks{}, allowed, (int)vocabulary,
                (int)parts, states,   partials, marked_logits,                       tokens,  log_probabilities};
  const dim3 grid((unsigned)batch, (unsigned)parts);
  int error = launch(survey, grid, BLOCK, stream, a);
  for (int round = 0; round < ROUNDS && !error; ++round) error = launch(narrow_cut, grid, BLOCK, stream, a, round);
  if (!error) error = launch(weigh, grid, BLOCK, stream, a);
  return error ? error : launch(draw, dim3((unsigned)batch), BLOCK, stream, a);
}
