#include "common.h"

namespace qwenvl {

std::vector<Tensor> normalise(const Tensor& x, const OptionalTensor& residual, const Tensor& weight,
                              const OptionalTensor& bias, float epsilon) {
  const int64_t size = x.shape().back(), rows = size ? x.numel() / size : 0;
  expect_shape("weight", weight, {size});
  if (bias) expect_shape("bias", *bias, {size});
  if (residual) expect_shape("residual", *residual, x.shape());
  const Tensor in = wide(x), scale = wide(weight);
  const OptionalTensor added = wide(residual), shift = wide(bias);
  Tensor y = empty(x.shape(), DataType::FLOAT32, x);
  std::vector<Tensor> outputs{y};
  if (residual) outputs.push_back(empty(x.shape(), DataType::FLOAT32, x));
  float* total = residual ? outputs[1].data<float>() : nullptr;
  if (bias)
    qwenvl_cpu_kernels()->layer_norm(in.data<float>(), data(added), scale.data<float>(), data(shift), epsilon, rows,
                                     size, total, y.data<float>());
  else
    qwenvl_cpu_kernels()->rms_norm(in.data<float>(), data(added), scale.data<float>(), epsilon, rows, size, total,
                                   y.data<float>());
  for (Tensor& output : outputs) output = narrow(output, x);
  return outputs;
}

std::vector<Tensor> rms_norm(const Tensor& x, const Tensor& weight, float epsilon) {
  return normalise(x, paddle::none, weight, paddle::none, epsilon);
}
std::vector<Tensor> add_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& residual, float epsilon) {
  return normalise(x, residual, weight, paddle::none, epsilon);
}
std::vector<Tensor> layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float epsilon) {
  return normalise(x, paddle::none, weight, bias, epsilon);
}
std::vector<Tensor> add_layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual,
                                   float epsilon) {
  return normalise(x, residual, weight, bias, epsilon);
}

std::vector<Tensor> swiglu(const Tensor& gate_up) {
  const int64_t width = gate_up.shape().back();
  PD_CHECK(width % 2 == 0, "swiglu halves its last axis, which has odd size ", width);
  const Tensor in = wide(gate_up);
  Tensor y = empty(with_last(gate_up.shape(), width / 2), DataType::FLOAT32, gate_up);
  qwenvl_cpu_kernels()->swiglu(in.data<float>(), width ? in.numel() / width : 0, width / 2, y.data<float>());
  return {narrow(y, gate_up)};
}

std::vector<Shape> norm_shape(Shape x, Shape) { return {x}; }
std::vector<Shape> add_norm_shape(Shape x, Shape, Shape) { return {x, x}; }
std::vector<Shape> layer_norm_shape(Shape x, Shape, Shape) { return {x}; }
std::vector<Shape> add_layer_norm_shape(Shape x, Shape, Shape, Shape) { return {x, x}; }
std::vector<Shape> swiglu_shape(Shape x) { return {with_last(x, x.back() < 0 ? -1 : x.back() / 2)}; }

std::vector<DataType> norm_dtype(DataType x, DataType) { return {x}; }
std::vector<DataType> add_norm_dtype(DataType x, DataType, DataType) { return {x, x}; }
std::vector<DataType> layer_norm_dtype(DataType x, DataType, DataType) { return {x}; }
std::vector<DataType> add_layer_norm_dtype(DataType x, DataType, DataType, DataType) { return {x, x}; }
std::vector<DataType> swiglu_dtype(DataType x) { return {x}; }

}  // namespace qwenvl

PD_BUILD_OP(qwenvl_rms_norm)
    .Inputs({"x", "weight"})
    .Outputs({"y"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(qwenvl::rms_norm))
    .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::norm_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::norm_dtype));

PD_BUILD_OP(qwenvl_add_rms_norm)
    .Inputs({"x", "weight", "residual"})
    .Outputs({"y", "total"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(qwenvl::add_rms_norm))
    .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::add_norm_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::add_norm_dtype));

PD_BUILD_OP(qwenvl_layer_norm)
    .Inputs({"x", "weight", "bias"})
    .Outputs({"y"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(qwenvl::layer_norm))
    .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::layer_norm_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::layer_norm_dtype));

PD_BUILD_OP(qwenvl_add_layer_norm)
    .Inputs({"x", "weight", "bias", "residual"})
    .Outputs({"y", "total"})
    .Attrs({"epsilon: float"})
    .SetKernelFn(PD_KERNEL(qwenvl::add_layer_norm))
    .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::add_layer_norm_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::add_layer_norm_dtype));

PD_BUILD_OP(qwenvl_swiglu)
    .Inputs({"gate_up"})
    .Outputs({"y"})
    .SetKernelFn(PD_KERNEL(qwenvl::swiglu))
    .SetInferShapeFn(PD_INFER_SHAPE(qwenvl::swiglu_shape))
    .SetInferDtypeFn(PD_INFER_DTYPE(qwenvl::swiglu_dtype));
