#include "gpu.h"

namespace qwenvl {

std::vector<Tensor> normalise(const Tensor& x, const OptionalTensor& residual, const Tensor& weight,
                              const OptionalTensor& bias, float epsilon) {
  const int64_t size = x.shape().back(), rows = size ? x.numel() / size : 0;
  expect_shape("weight", weight, {size});
  if (bias) expect_shape("bias", *bias, {size});
  if (residual) expect_shape("residual", *residual, x.shape());
  if (bias) QWENVL_IF_ON_GPU(x, gpu::layer_norm(x, residual, weight, *bias, epsilon));
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
  qwenvl_cpu_kernels()->swiglu(in.data<float>(), width ? in.numel() / width : 0, width / 2, width / 2, y.data<float>());
  return {narrow(y, gate_up)};
}

// Gradients in the order x, weight, then bias and residual where there are any.
std::vector<Tensor> norm_gradient(const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const Tensor& dy,
                                  const OptionalTensor& d_total, float epsilon) {
  const int64_t size = x.shape().back(), rows = size ? x.numel() / size : 0;
  const Tensor in = wide(x), scale = wide(weight), from = arriving(dy, x.shape(), x);
  const OptionalTensor added = d_total ? OptionalTensor(arriving(*d_total, x.shape(), x)) : d_total;
  Tensor dx = empty(x.shape(), DataType::FLOAT32, x), d_weight = empty({size}, DataType::FLOAT32, x);
  Tensor d_bias = empty({bias ? size : 0}, DataType::FLOAT32, x);
  qwenvl_cpu_kernels()->norm_gradient(in.data<float>(), scale.data<float>(), from.data<float>(), data(added), epsilon,
                                      rows, size, dx.data<float>(), d_weight.data<float>(),
                                      bias ? d_bias.data<float>() : nullptr);
  std::vector<Tensor> gradients{narrow(dx, x), narrow(d_weight, weight)};
  if (bias) gradients.push_back(narrow(d_bias, *bias));
  if (d_total) gradients.push_back(gradients[0].copy_to(x.place(), true));  // Paddle adds to gradients in place
  return gradients;
}

std::vector<Tensor> rms_norm_gradient(const Tensor& x, const Tensor& weight, const Tensor& dy, float epsilon) {
  return norm_gradient(x, weight, paddle::none, dy, paddle::none, epsilon);
}
std::vector<Tensor> add_rms_norm_gradient(const Tensor& total, const Tensor& weight, const Tensor& dy,
                                          const Tensor& d_total, float epsilon) {
  return norm_gradient(total, weight, paddle::none, dy, d_total, epsilon);
}
std::vector<Tensor> layer_norm_gradient(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& dy,
                                        float epsilon) {
  return norm_gradient(x, weight, bias, dy, paddle::none, epsilon);
}
std::vector<Tensor> add_layer_norm_gradient(const Tensor& total, const Tensor& weight, const Tensor& bias,
                                            const Tensor& dy, const Tensor& d_total, float epsilon) {
  return norm_gradient(total, weight, bias, dy, d_total, epsilon);
}

std::vector<Tensor> swiglu_gradient(const Tensor& gate_up, const Tensor& dy) {
  const int64_t width = gate_up.shape().back();
  const Tensor in = wide(gate_up), from = wide(dy);
  Tensor d_gate_up = empty(gate_up.shape(), DataType::FLOAT32, gate_up);
  qwenvl_cpu_kernels()->swiglu_gradient(in.data<float>(), from.data<float>(), width ? in.numel() / width : 0, width / 2,
                                        d_gate_up.data<float>());
  return {narrow(d_gate_up, gate_up)};
}

std::vector<Shape> rms_norm_shape(Shape x, Shape) { return {x}; }
std::vector<Shape> add_rms_norm_shape(Shape x, Shape, Shape) { return {x, x}; }
std::vector<Shape> layer_norm_shape(Shape x, Shape, Shape) { return {x}; }
std::vector<Shape> add_layer_norm_shape(Shape x, Shape, Shape, Shape) { return {x, x}; }
std::vector<Shape> swiglu_shape(Shape x) { return {with_last(x, x.back() < 0 ? -1 : x.back() / 2)}; }

std::vector<DataType> rms_norm_dtype(DataType x, DataType) { return {x}; }
std::vector<DataType> add_rms_norm_dtype(DataType x, DataType, DataType) { return {x, x}; }
std::vector<DataType> layer_norm_dtype(DataType x, DataType, DataType) { return {x}; }
std::vector<DataType> add_layer_norm_dtype(DataType x, DataType, DataType, DataType) { return {x, x}; }
std::vector<DataType> swiglu_dtype(DataType x) { return {x}; }

}  // namespace qwenvl

QWENVL_BUILD_OP(rms_norm)
    .Inputs({"x", "weight"})
    .Outputs({"y"})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_OP(add_rms_norm)
    .Inputs({"x", "weight", "residual"})
    .Outputs({"y", "total"})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_OP(layer_norm)
    .Inputs({"x", "weight", "bias"})
    .Outputs({"y"})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_OP(add_layer_norm)
    .Inputs({"x", "weight", "bias", "residual"})
    .Outputs({"y", "total"})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_OP(swiglu)
    .Inputs({"gate_up"})
    .Outputs({"y"});

QWENVL_BUILD_GRADIENT(rms_norm)
    .Inputs({"x", "weight", paddle::Grad("y")})
    .Outputs({paddle::Grad("x"), paddle::Grad("weight")})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_GRADIENT(add_rms_norm)
    .Inputs({"total", "weight", paddle::Grad("y"), paddle::Grad("total")})
    .Outputs({paddle::Grad("x"), paddle::Grad("weight"), paddle::Grad("residual")})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_GRADIENT(layer_norm)
    .Inputs({"x", "weight", "bias", paddle::Grad("y")})
    .Outputs({paddle::Grad("x"), paddle::Grad("weight"), paddle::Grad("bias")})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_GRADIENT(add_layer_norm)
    .Inputs({"total", "weight", "bias", paddle::Grad("y"), paddle::Grad("total")})
    .Outputs({paddle::Grad("x"), paddle::Grad("weight"), paddle::Grad("bias"), paddle::Grad("residual")})
    .Attrs({"epsilon: float"});

QWENVL_BUILD_GRADIENT(swiglu)
    .Inputs({"gate_up", paddle::Grad("y")})
    .Outputs({paddle::Grad("gate_up")});
