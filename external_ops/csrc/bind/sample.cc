#include "gpu.h"

namespace qwenvl {

Tensor draw(const Tensor& logits, const OptionalTensor& seen, const Tensor& uniform, const QwenvlSampling& how) {
  PD_CHECK(logits.shape().size() == 2, "logits are [B, V], not ", text(logits.shape()));
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1];
  PD_CHECK(vocabulary > 0, "logits have no columns");
  expect_shape("uniform", uniform, {batch});
  if (seen) expect_shape("seen", *seen, logits.shape());
  QWENVL_IF_ON_GPU(logits, gpu::sample(logits, seen, uniform, how));
  const Tensor in = wide(logits), draws = wide(uniform);
  const OptionalTensor marks = seen && seen->dtype() != DataType::BOOL ? OptionalTensor(seen->cast(DataType::BOOL)) : seen;
  Tensor tokens = empty({batch}, DataType::INT64, logits);
  qwenvl_cpu_kernels()->sample(in.data<float>(), marks ? (const uint8_t*)marks->data<bool>() : nullptr, &how,
                               draws.data<float>(), batch, vocabulary, tokens.data<int64_t>());
  return tokens;
}

std::vector<Tensor> sample(const Tensor& logits, const OptionalTensor& seen, const Tensor& uniform, float temperature,
                           int top_k, float top_p, float repetition_penalty) {
  return {draw(logits, seen, uniform, {temperature, top_p, repetition_penalty, top_k})};
}

// For static graphs, whose attributes are fixed: temperature, top_k, top_p and repetition penalty as a tensor.
std::vector<Tensor> sample_with_settings(const Tensor& logits, const Tensor& seen, const Tensor& settings,
                                         const Tensor& uniform) {
  expect_shape("settings", settings, {4});
  expect_dtype("settings", settings, DataType::FLOAT32);
  const Tensor values = settings.is_cpu() ? settings : settings.copy_to(paddle::CPUPlace(), true);
  const float* how = values.data<float>();
  return {draw(logits, seen, uniform, {how[0], how[2], how[3], (int64_t)how[1]})};
}

std::vector<Tensor> log_probability(const Tensor& logits, const Tensor& tokens) {
  PD_CHECK(logits.shape().size() == 2, "logits are [B, V], not ", text(logits.shape()));
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1];
  expect_shape("tokens", tokens, {batch});
  expect_dtype("tokens", tokens, DataType::INT64);
  const int64_t* token = tokens.data<int64_t>();
  for (int64_t b = 0; b < batch; ++b)
    PD_CHECK(token[b] >= 0 && token[b] < vocabulary, "token ", token[b], " is not among ", vocabulary);
  const Tensor in = wide(logits);
  Tensor y = empty({batch}, DataType::FLOAT32, logits);
  qwenvl_cpu_kernels()->log_probability(in.data<float>(), token, batch, vocabulary, y.data<float>());
  return {y};
}

std::vector<Shape> sample_shape(Shape logits, Shape, Shape) { return {{logits[0]}}; }
std::vector<DataType> sample_dtype(DataType, DataType, DataType) { return {DataType::INT64}; }
std::vector<Shape> log_probability_shape(Shape logits, Shape) { return {{logits[0]}}; }
std::vector<DataType> log_probability_dtype(DataType, DataType) { return {DataType::FLOAT32}; }
std::vector<Shape> sample_with_settings_shape(Shape logits, Shape, Shape, Shape) { return {{logits[0]}}; }
std::vector<DataType> sample_with_settings_dtype(DataType, DataType, DataType, DataType) { return {DataType::INT64}; }

}  // namespace qwenvl

QWENVL_BUILD_OP(sample)
    .Inputs({"logits", paddle::Optional("seen"), "uniform"})
    .Outputs({"tokens"})
    .Attrs({"temperature: float", "top_k: int", "top_p: float", "repetition_penalty: float"});

QWENVL_BUILD_OP(sample_with_settings)
    .Inputs({"logits", "seen", "settings", "uniform"})
    .Outputs({"tokens"});

QWENVL_BUILD_OP(log_probability)
    .Inputs({"logits", "tokens"})
    .Outputs({"log_probability"});
