#include "gpu.h"

namespace qwenvl {

void expect_with(const char* name, const Tensor& x, const Shape& shape, DataType dtype, const Tensor& logits) {
  expect_shape(name, x, shape);
  expect_dtype(name, x, dtype);
  expect_together(name, x, logits);
}

void expect_token(int64_t token, int64_t vocabulary) {
  PD_CHECK(token >= 0 && token < vocabulary, "token ", token, " is not among ", vocabulary);
}

// Paddle gives tensors without numbers as none.
QwenvlTokenMarks expect_marks(const Tensor& offsets, const OptionalTensor& tokens, const OptionalTensor& counts,
                              const OptionalTensor& bias, const Tensor& logits) {
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1], size = tokens ? tokens->numel() : 0;
  expect_with("offsets", offsets, {batch + 1}, DataType::INT32, logits);
  const int32_t* offset = offsets.data<int32_t>();
  bool rising = !logits.is_cpu() || (offset[0] == 0 && offset[batch] == size);
  for (int64_t b = 0; logits.is_cpu() && b < batch; ++b) rising = rising && offset[b] <= offset[b + 1];
  PD_CHECK(rising, "offsets must rise from 0 to ", size, ", the number of tokens");
  if (!tokens) return {offset, nullptr, nullptr, nullptr, 0};
  expect_with("tokens", *tokens, {size}, DataType::INT32, logits);
  expect_with("counts", *counts, {size}, DataType::INT32, logits);
  expect_with("bias", *bias, {size}, DataType::FLOAT32, logits);
  const int32_t* token = tokens->data<int32_t>();
  for (int64_t i = 0; logits.is_cpu() && i < size; ++i) expect_token(token[i], vocabulary);
  return {offset, token, counts->data<int32_t>(), bias->data<float>(), size};
}

std::vector<Tensor> sample(const Tensor& logits, const Tensor& settings, const Tensor& uniform,
                           const OptionalTensor& offsets, const OptionalTensor& tokens, const OptionalTensor& counts,
                           const OptionalTensor& bias, const OptionalTensor& allowed) {
  PD_CHECK(logits.shape().size() == 2, "logits are [B, V], not ", text(logits.shape()));
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1];
  PD_CHECK(vocabulary > 0, "logits have no columns");
  expect_with("settings", settings, {batch, sizeof(QwenvlSampling) / sizeof(float)}, DataType::FLOAT32, logits);
  expect_with("uniform", uniform, {batch}, DataType::FLOAT32, logits);
  if (allowed) expect_with("allowed", *allowed, {batch, (vocabulary + 31) / 32}, DataType::INT32, logits);
  PD_CHECK(!tokens == !counts && !tokens == !bias && (offsets || !tokens),
           "offsets, tokens, counts and bias go together; give all of them or none");
  QwenvlTokenMarks marks{};
  if (offsets) marks = expect_marks(*offsets, tokens, counts, bias, logits);
  const QwenvlSampling* how = (const QwenvlSampling*)settings.data<float>();
  const QwenvlTokenMarks* given = offsets ? &marks : nullptr;
  const int32_t* bits = allowed ? allowed->data<int32_t>() : nullptr;
  QWENVL_IF_ON_GPU(logits, gpu::sample(logits, how, uniform, given, bits));
  const Tensor in = wide(logits);
  Tensor drawn = empty({batch}, DataType::INT64, logits), logs = empty({batch}, DataType::FLOAT32, logits);
  qwenvl_cpu_kernels()->sample(in.data<float>(), how, uniform.data<float>(), given, bits, batch, vocabulary,
                               drawn.data<int64_t>());
  qwenvl_cpu_kernels()->log_probability(in.data<float>(), drawn.data<int64_t>(), batch, vocabulary, logs.data<float>());
  return {drawn, logs};
}

std::vector<Shape> sample_shape(Shape logits, Shape, Shape, Shape, Shape, Shape, Shape, Shape) {
  return {{logits[0]}, {logits[0]}};
}
std::vector<DataType> sample_dtype(DataType, DataType, DataType, DataType, DataType, DataType, DataType, DataType) {
  return {DataType::INT64, DataType::FLOAT32};
}
}  // namespace qwenvl

QWENVL_BUILD_OP(sample)
    .Inputs({"logits", "settings", "uniform", paddle::Optional("offsets"), paddle::Optional("tokens"),
             paddle::Optional("counts"), paddle::Optional("bias"), paddle::Optional("allowed")})
    .Outputs({"drawn", "log_probabilities"});
