#include "gpu.h"

namespace qwenvl {

// By `product`, qwenvl_linear or qwenvl_linear_swiglu, whose y has `columns` columns.
std::vector<Tensor> multiply(decltype(qwenvl_linear)* product, int64_t columns, const Tensor& x, const Tensor& weight,
                             const OptionalTensor& scale, const OptionalTensor& bias) {
  const int64_t n = weight.shape()[0], k = weight.shape().back(), rows = k ? x.numel() / k : 0;
  expect_shape("weight", weight, {n, x.shape().back()});
  const bool fp8 = weight.dtype() == DataType::UINT8;  // whose bits they are
  PD_CHECK(!!scale == (fp8 || weight.dtype() == DataType::INT8), "a scale goes with an int8 weight or the bits of an fp8 one");
  if (scale) expect_shape("scale", *scale, {n});
  if (bias) expect_shape("bias", *bias, {n});
  if (scale) QWENVL_IF_ON_GPU(x, {gpu::linear_bytes(x, weight, *scale, bias)});
  const Tensor in = wide(x);
  const OptionalTensor scales = wide(scale), added = wide(bias);
  Tensor y = empty(with_last(x.shape(), columns), DataType::FLOAT32, x);
  product(in.data<float>(), weight.data(), fp8 ? QWENVL_FP8 : kernel_dtype("weight", weight), data(scales), data(added), rows,
          k, n, y.data<float>());
  return {narrow(y, x)};
}

std::vector<Tensor> linear(const Tensor& x, const Tensor& weight, const OptionalTensor& scale,
                           const OptionalTensor& bias) {
  return multiply(qwenvl_linear, weight.shape()[0], x, weight, scale, bias);
}

int64_t halves(const Tensor& weight) {
  const int64_t n = weight.shape()[0];
  PD_CHECK(n % 2 == 0, "swiglu halves the outputs, of which there are ", n);
  return n / 2;
}

std::vector<Tensor> linear_swiglu(const Tensor& x, const Tensor& weight, const OptionalTensor& scale,
                                  const OptionalTensor& bias) {
  return multiply(qwenvl_linear_swiglu, halves(weight), x, weight, scale, bias);
}

// By `product`, qwenvl_linear_int4 or qwenvl_linear_int4_swiglu, whose y has `columns` columns.
std::vector<Tensor> multiply_int4(decltype(qwenvl_linear_int4)* product, int64_t columns, const Tensor& x,
                                  const Tensor& values, const Tensor& scale, const OptionalTensor& zeros,
                                  const OptionalTensor& order, const OptionalTensor& bias) {
  const int64_t n = values.shape()[0], k = x.shape().back(), groups = scale.shape().back();
  const int64_t group = groups ? k / groups : 0, rows = k ? x.numel() / k : 0;
  PD_CHECK(group % QWENVL_INT4_GROUPS_OF == 0 && group * groups == k, "an int4 weight has groups of a multiple of ",
           QWENVL_INT4_GROUPS_OF, " inputs, which ", groups, " groups of ", k, " inputs are not");
  expect_dtype("values", values, DataType::UINT8);
  expect_together("values", values, x);
  expect_shape("values", values, {n, k / 2});
  expect_shape("scale", scale, {n, groups});
  const QwenvlDtype scale_dtype = kernel_dtype("scale", scale);
  PD_CHECK(scale_dtype != QWENVL_INT8, "scale may be float32, bfloat16 or float16, not int8");
  if (zeros) expect_shape("zeros", *zeros, {n, groups});
  if (zeros) expect_dtype("zeros", *zeros, DataType::UINT8);
  if (order) expect_shape("order", *order, {k});
  if (order) expect_dtype("order", *order, DataType::INT32);
  if (bias) expect_shape("bias", *bias, {n});
  const QwenvlInt4Weight weight{values.data<uint8_t>(), scale.data(), zeros ? zeros->data<uint8_t>() : nullptr,
                                order ? order->data<int32_t>() : nullptr, scale_dtype, n, k, group};
  QWENVL_IF_ON_GPU(x, {gpu::linear_int4(x, weight, bias)});
  const Tensor in = wide(x);
  const OptionalTensor added = wide(bias);
  Tensor y = empty(with_last(x.shape(), columns), DataType::FLOAT32, x);
  product(in.data<float>(), &weight, data(added), rows, y.data<float>());
  return {narrow(y, x)};
}

std::vector<Tensor> linear_int4(const Tensor& x, const Tensor& values, const Tensor& scale, const OptionalTensor& zeros,
                                const OptionalTensor& order, const OptionalTensor& bias) {
  return multiply_int4(qwenvl_linear_int4, values.shape()[0], x, values, scale, zeros, order, bias);
}

std::vector<Tensor> linear_int4_swiglu(const Tensor& x, const Tensor& values, const Tensor& scale, const OptionalTensor& zeros,
                                       const OptionalTensor& order, const OptionalTensor& bias) {
  return multiply_int4(qwenvl_linear_int4_swiglu, halves(values), x, values, scale, zeros, order, bias);
}

std::vector<Tensor> embedding(const Tensor& ids, const Tensor& weight, const OptionalTensor& scale) {
  const int64_t n = weight.shape()[0], size = weight.shape().back(), tokens = ids.numel();
  PD_CHECK(ids.is_cpu() && weight.is_cpu(), "ids and weight have to be on the CPU, not on ", ids.place(), " and ", weight.place());
  PD_CHECK(!!scale == (weight.dtype() == DataType::INT8), "a scale goes with an int8 weight");
  if (scale) expect_shape("scale", *scale, {n});
  const Tensor rows = ids.dtype() == DataType::INT64 ? ids : ids.cast(DataType::INT64);
  for (int64_t t = 0; t < tokens; ++t) expect_token(rows.data<int64_t>()[t], n);
  const OptionalTensor scales = wide(scale);
  Shape shape = ids.shape();
  shape.push_back(size);
  Tensor y = empty(shape, DataType::FLOAT32, weight);
  qwenvl_cpu_kernels()->embedding(rows.data<int64_t>(), weight.data(), kernel_dtype("weight", weight), data(scales), tokens,
                                  size, y.data<float>());
  return {y};
}

void add_bias(Tensor& y, const Tensor& bias) {
  expect_shape("bias", bias, {y.shape().back()});
  expect_dtype("y", y, DataType::FLOAT32);  // activations are, on the CPU
  const Tensor added = wide(bias);
  qwenvl_cpu_kernels()->add_bias(added.data<float>(), y.numel() / bias.numel(), bias.numel(), y.data<float>());
}

std::vector<Tensor> add_bias_gradient(const Tensor& bias, const Tensor& dy) {
  const Tensor from = wide(dy);
  Tensor d_bias = empty(bias.shape(), DataType::FLOAT32, bias);
  qwenvl_cpu_kernels()->column_sums(from.data<float>(), dy.numel() / bias.numel(), bias.numel(),
                                    d_bias.data<float>());
  return {dy, narrow(d_bias, bias)};
}

std::vector<Tensor> quantize_int8(const Tensor& weight) {
  PD_CHECK(weight.is_cpu() && weight.shape().size() == 2, "weight is [out, in], not ", text(weight.shape()));
  const Shape shape = weight.shape();
  Tensor y = empty(shape, DataType::INT8, weight), scale = empty({shape[0]}, DataType::FLOAT32, weight);
  qwenvl_cpu_kernels()->quantize(weight.data(), kernel_dtype("weight", weight), shape[0], shape[1], y.data<int8_t>(),
                                 scale.data<float>());
  return {y, scale};
}

std::vector<Shape> linear_shape(Shape x, Shape weight, Shape, Shape) { return {with_last(x, weight[0])}; }
std::vector<Shape> linear_swiglu_shape(Shape x, Shape weight, Shape, Shape) { return {with_last(x, weight[0] / 2)}; }
std::vector<DataType> linear_dtype(DataType x, DataType, DataType, DataType) { return {x}; }
std::vector<DataType> linear_swiglu_dtype(DataType x, DataType, DataType, DataType) { return {x}; }
std::vector<Shape> linear_int4_shape(Shape x, Shape values, Shape, Shape, Shape, Shape) {
  return {with_last(x, values[0])};
}
std::vector<Shape> linear_int4_swiglu_shape(Shape x, Shape values, Shape, Shape, Shape, Shape) {
  return {with_last(x, values[0] / 2)};
}
std::vector<DataType> linear_int4_dtype(DataType x, DataType, DataType, DataType, DataType, DataType) { return {x}; }
std::vector<DataType> linear_int4_swiglu_dtype(DataType x, DataType, DataType, DataType, DataType, DataType) { return {x}; }
std::vector<Shape> embedding_shape(Shape ids, Shape weight, Shape) {
  ids.push_back(weight.back());
  return {ids};
}
std::vector<DataType> embedding_dtype(DataType, DataType, DataType) { return {DataType::FLOAT32}; }
std::vector<Shape> add_bias_shape(Shape y, Shape) { return {y}; }
std::vector<DataType> add_bias_dtype(DataType y, DataType) { return {y}; }
std::vector<Shape> quantize_int8_shape(Shape weight) { return {weight, {weight[0]}}; }
std::vector<DataType> quantize_int8_dtype(DataType) { return {DataType::INT8, DataType::FLOAT32}; }

}  // namespace qwenvl

QWENVL_BUILD_OP(linear)
    .Inputs({"x", "weight", paddle::Optional("scale"), paddle::Optional("bias")})
    .Outputs({"y"});

QWENVL_BUILD_OP(linear_swiglu)
    .Inputs({"x", "weight", paddle::Optional("scale"), paddle::Optional("bias")})
    .Outputs({"y"});

QWENVL_BUILD_OP(linear_int4)
    .Inputs({"x", "values", "scale", paddle::Optional("zeros"), paddle::Optional("order"), paddle::Optional("bias")})
    .Outputs({"y"});

QWENVL_BUILD_OP(linear_int4_swiglu)
    .Inputs({"x", "values", "scale", paddle::Optional("zeros"), paddle::Optional("order"), paddle::Optional("bias")})
    .Outputs({"y"});

QWENVL_BUILD_OP(embedding)
    .Inputs({"ids", "weight", paddle::Optional("scale")})
    .Outputs({"rows"});

QWENVL_BUILD_OP(add_bias)
    .Inputs({"y", "bias"})
    .Outputs({"out"})
    .SetInplaceMap({{"y", "out"}});

QWENVL_BUILD_GRADIENT(add_bias)
    .Inputs({"bias", paddle::Grad("out")})
    .Outputs({paddle::Grad("y"), paddle::Grad("bias")});

QWENVL_BUILD_OP(quantize_int8)
    .Inputs({"weight"})
    .Outputs({"quantized", "scale"});
