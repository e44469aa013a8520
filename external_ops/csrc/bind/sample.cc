#include "common.h"

namespace qwenvl {

std::vector<Tensor> sample(const Tensor& logits, const OptionalTensor& seen, const Tensor& uniform, float temperature,
                           int top_k, float top_p, float repetition_penalty) {
  PD_CHECK(logits.shape().size() == 2, "logits are [B, V], not ", text(logits.shape()));
  const int64_t batch = logits.shape()[0], vocabulary = logits.shape()[1];
  PD_CHECK(vocabulary > 0, "logits have no columns");
  expect_shape("uniform", uniform, {batch});
  if (seen) expect_shape("seen", *seen, logits.shape());
  const Tensor in = wide(logits), draws = wide(uniform);
  const OptionalTensor marks = seen && seen->dtype() != DataType::BOOL ? OptionalTensor(seen->cast(DataType::BOOL)) : seen;
  Tensor tokens = empty({batch}, DataType::INT64, logits);
  const QwenvlSampling how{temperature, top_p, repetition_penalty, top_k};
  qwenvl_cpu_kernels()->sample(in.data<float>(), marks ? (const uint8_t*)marks->data<bool>() : nullptr, &how,
                               draws.data<float>(), batch, vocabulary, tokens.data<int64_t>());
  return {tokens};
}

std::vector<Shape> sample_shape(Shape logits, Shape, Shape) { return {{logits[0]}}; }
std::vector<DataType> sample_dtype(DataType, DataType, DataType) { return {DataType::INT64}; }

}  // namespace qwenvl

PD_BUILD_OP(qwenvl_sample)
    .Inputs({"logits", paddle::Optional("seen"), "uniform"})
    .Outputs({"tokens"})
    .Attrs({"temperature: float", "top_k: int", "top_p: float", "repetition_penalty: float"})
    .SetKernelFn(PD_KERNEL(qwenvl::sample))
    .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::sample_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::sample_dtype));
