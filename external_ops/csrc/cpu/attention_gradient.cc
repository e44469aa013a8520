// Gradient of attention over packed sequences. Weights are not kept from the forward pass but computed again, a panel of
// queries at a time (Dao et al. 2022, algorithm 4, with whole columns of scores). As in attention.cc, queries lie in lanes:
//   scores = K Q^T,  weights = softmax(scores),  d weights = V dO^T,  d scores = weights (d weights - sum(weights d weights)),
//   dQ^T = K^T d scores,  dK += d scores Q,  dV += weights dO.
#include "microkernel.h"

namespace qwenvl {
namespace QWENVL_ISA {
namespace {

constexpr int64_t PANEL = MICRO_COLUMNS;

INLINE int64_t panels(int64_t size) { return (size + PANEL - 1) / PANEL; }

struct Problem {
  const float *q, *k, *v, *d_out;
  int64_t heads, kv_heads, head_dim;
  bool causal;
  float scale;
  float *dq, *dk, *dv;

  int64_t query_stride() const { return heads * head_dim; }
  int64_t key_stride() const { return kv_heads * head_dim; }
  int64_t padded() const { return panels(head_dim) * PANEL; }
};

// Memory for one segment of `keys` keys. What has a row a key is in panels of PANEL columns: [panel][keys][PANEL].
struct Work {
  float *weights, *d_weights;  // [keys][PANEL]
  float *dk, *dv;              // [panels of D][keys][PANEL]
  float *q, *d_out, *dq;       // [D][PANEL], queries in the columns
  float *q_rows, *d_out_rows;  // [panels of D][PANEL][PANEL], queries in the rows

  static int64_t size(const Problem& p, int64_t keys) { return 2 * keys * (PANEL + p.padded()) + 5 * PANEL * p.padded(); }
  Work(const Problem& p, int64_t keys, float* memory) {
    auto take = [&](int64_t floats) { return (memory += floats) - floats; };
    weights = take(keys * PANEL), d_weights = take(keys * PANEL);
    dk = take(keys * p.padded()), dv = take(keys * p.padded());
    const int64_t panel = PANEL * p.padded();
    q = take(panel), d_out = take(panel), dq = take(panel), q_rows = take(panel), d_out_rows = take(panel);
  }
};

// Up to PANEL rows of x to [panels of D][PANEL][PANEL], zeros around them.
void load_rows(const float* x, int64_t stride, int64_t rows, int64_t head_dim, float* panel) {
  for (int64_t first = 0; first < head_dim; first += PANEL, panel += PANEL * PANEL)
    for (int64_t r = 0; r < PANEL; ++r)
      for (int64_t i = 0; i < PANEL; ++i)
        panel[r * PANEL + i] = r < rows && first + i < head_dim ? x[r * stride + first + i] : 0.0f;
}

// panel [rows][PANEL] = A [rows x k] B, B in a panel.
void product(const float* a, int64_t lda, const float* b, int64_t rows, int64_t k, float* panel) {
  for (int64_t i = 0; i < rows; i += MICRO_ROWS)
    micro<2, false>(least(MICRO_ROWS, rows - i), k, a + i * lda, lda, b, panel + i * PANEL, false);
}

// sums [panels of D][keys][PANEL] += panel [keys][PANEL] rows [panels of D][PANEL][PANEL], for the first `used` keys.
void accumulate(const float* panel, const float* rows, int64_t used, int64_t keys, int64_t head_dim, float* sums) {
  for (int64_t first = 0; first < head_dim; first += PANEL, rows += PANEL * PANEL, sums += keys * PANEL) {
    auto add = head_dim - first <= W ? micro<1, false> : micro<2, false>;
    for (int64_t i = 0; i < used; i += MICRO_ROWS)
      add(least(MICRO_ROWS, used - i), PANEL, panel + i * PANEL, PANEL, rows, sums + i * PANEL, true);
  }
}

// Scores in base 2 become weights; query j sees keys up to `last + j`.
INLINE void softmax(float* scores, int64_t keys, int64_t last, bool causal) {
  if (causal)
    for (int64_t i = last + 1 < 0 ? 0 : last + 1; i < keys; ++i)
      for (int64_t j = 0; j < PANEL && last + j < i; ++j) scores[i * PANEL + j] = -__builtin_inff();
  for (int64_t lane = 0; lane < PANEL; lane += W, scores += W) {
    vfloat highest = splat(-1e30f), total{};
    for (int64_t i = 0; i < keys; ++i) highest = max(load(scores + i * PANEL), highest);
    for (int64_t i = 0; i < keys; ++i) {
      const vfloat weight = exp2(load(scores + i * PANEL) - highest);
      total += weight;
      store(scores + i * PANEL, weight);
    }
    const vfloat inverse = total > 0.0f ? 1.0f / total : vfloat{};
    for (int64_t i = 0; i < keys; ++i) store(scores + i * PANEL, load(scores + i * PANEL) * inverse);
  }
}

// Gradients of weights become gradients of scores.
INLINE void softmax_gradient(const float* weights, float* d_weights, int64_t keys, float scale) {
  for (int64_t lane = 0; lane < PANEL; lane += W, weights += W, d_weights += W) {
    vfloat mean{};
    for (int64_t i = 0; i < keys; ++i) mean += load(weights + i * PANEL) * load(d_weights + i * PANEL);
    for (int64_t i = 0; i < keys; ++i)
      store(d_weights + i * PANEL, load(weights + i * PANEL) * (load(d_weights + i * PANEL) - mean) * scale);
  }
}

// One segment and one key-value head: adds up over the query heads that share it.
void solve(const Problem& p, int64_t start_q, int64_t length_q, int64_t start_k, int64_t keys, int64_t kv_head,
           float* memory) {
  const Work work(p, keys, memory);
  const int64_t from_k = start_k * p.key_stride() + kv_head * p.head_dim, group = p.heads / p.kv_heads;
  memset(work.dk, 0, 2 * keys * p.padded() * sizeof(float));  // and dv behind it
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head)
    for (int64_t first = 0; first < length_q; first += PANEL) {
      const int64_t rows = least(PANEL, length_q - first), last = keys - length_q + first;
      const int64_t used = !p.causal ? keys : last + rows < 0 ? 0 : least(keys, last + rows);
      const int64_t from_q = (start_q + first) * p.query_stride() + head * p.head_dim;
      const float *q = p.q + from_q, *d_out = p.d_out + from_q;
      load_panel(q, p.query_stride(), rows, p.head_dim, p.scale * LOG2E, work.q);
      load_panel(d_out, p.query_stride(), rows, p.head_dim, 1.0f, work.d_out);
      load_rows(q, p.query_stride(), rows, p.head_dim, work.q_rows);
      load_rows(d_out, p.query_stride(), rows, p.head_dim, work.d_out_rows);

      product(p.k + from_k, p.key_stride(), work.q, used, p.head_dim, work.weights);
      softmax(work.weights, used, last, p.causal);
      product(p.v + from_k, p.key_stride(), work.d_out, used, p.head_dim, work.d_weights);
      softmax_gradient(work.weights, work.d_weights, used, p.scale);

      for (int64_t d = 0; d < p.head_dim; d += MICRO_ROWS)
        micro<2, true>(least(MICRO_ROWS, p.head_dim - d), used, p.k + from_k + d, p.key_stride(),
                       work.d_weights, work.dq + d * PANEL, false);
      store_panel(rows, p.head_dim, p.query_stride(), p.dq + from_q,
                  [&](int64_t d, int64_t query) { return load(work.dq + d * PANEL + query); });
      accumulate(work.d_weights, work.q_rows, used, keys, p.head_dim, work.dk);
      accumulate(work.weights, work.d_out_rows, used, keys, p.head_dim, work.dv);
    }
  for (int64_t i = 0; i < keys; ++i)
    for (int64_t d = 0; d < p.head_dim; ++d) {
      const int64_t to = from_k + i * p.key_stride() + d, at = (d / PANEL * keys + i) * PANEL + d % PANEL;
      p.dk[to] = work.dk[at], p.dv[to] = work.dv[at];
    }
}

}  // namespace

void attention_gradient(const float* q, const float* k, const float* v, const float* d_out, const int32_t* cu_q,
                        const int32_t* cu_k, int64_t segments, int64_t heads, int64_t kv_heads, int64_t head_dim,
                        int causal, float scale, float* dq, float* dk, float* dv) {
  const Problem p{q, k, v, d_out, heads, kv_heads, head_dim, causal != 0, scale, dq, dk, dv};
  int64_t longest = 0;
  for (int64_t s = 0; s < segments; ++s) longest = longest > cu_k[s + 1] - cu_k[s] ? longest : cu_k[s + 1] - cu_k[s];
  const int64_t size = Work::size(p, longest);
  Scratch memory(qwenvl_threads() * size);
#pragma omp parallel for schedule(monotonic : dynamic) num_threads(qwenvl_threads())
  for (int64_t i = 0; i < segments * kv_heads; ++i) {
    const int64_t s = i / kv_heads;
    solve(p, cu_q[s], cu_q[s + 1] - cu_q[s], cu_k[s], cu_k[s + 1] - cu_k[s], i % kv_heads,
          memory.data + thread_index() * size);
  }
}

}  // namespace QWENVL_ISA
}  // namespace qwenvl
