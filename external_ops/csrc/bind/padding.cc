#include <cstring>

#include "gpu.h"

namespace qwenvl {

std::vector<Tensor> get_padding_offset(const Tensor& attention_mask) {
  PD_CHECK(attention_mask.shape().size() == 2, "attention_mask is [B, S], not ",
           text(attention_mask.shape()));
  const Tensor mask = attention_mask.cast(DataType::BOOL);
  QWENVL_IF_ON_GPU(mask, gpu::get_padding_offset(mask));
  const int64_t batch = mask.shape()[0], length = mask.shape()[1];
  const bool* real = mask.data<bool>();
  Tensor cu_seqlens = empty({batch + 1}, DataType::INT32, mask);
  int32_t* cu = cu_seqlens.data<int32_t>();
  cu[0] = 0;
  for (int64_t b = 0; b < batch; ++b) {
    int32_t count = 0;
    for (int64_t s = 0; s < length; ++s) count += real[b * length + s];
    cu[b + 1] = cu[b] + count;
  }
  Tensor indices = empty({cu[batch]}, DataType::INT64, mask);
  int64_t* next = indices.data<int64_t>();
  for (int64_t i = 0; i < batch * length; ++i)
    if (real[i]) *next++ = i;
  return {indices, cu_seqlens};
}

void expect_indices(const Tensor& indices, const Tensor& x, int64_t rows) {
  expect_dtype("indices", indices, DataType::INT64);
  expect_together("indices", indices, x);
  if (!indices.is_cpu()) return;
  for (int64_t i = 0; i < indices.numel(); ++i)
    PD_CHECK(indices.data<int64_t>()[i] >= 0 && indices.data<int64_t>()[i] < rows, "index ", indices.data<int64_t>()[i],
             " points outside of ", rows, " rows");
}

std::vector<Tensor> transpose_remove_padding(const Tensor& x, const Tensor& indices) {
  Shape shape = x.shape();
  PD_CHECK(shape.size() >= 2, "x is [B, S, ...], not ", text(shape));
  const int64_t rows = shape[0] * shape[1], tokens = indices.numel();
  expect_indices(indices, x, rows);
  shape.erase(shape.begin());
  shape[0] = tokens;
  QWENVL_IF_ON_GPU(x, {gpu::gather_rows(x, indices, rows, shape)});
  Tensor y = empty(shape, x.dtype(), x);
  const int64_t bytes = rows ? x.numel() / rows * phi::SizeOf(x.dtype()) : 0;
  for (int64_t t = 0; t < tokens; ++t)
    memcpy((char*)y.data() + t * bytes, (const char*)x.data() + indices.data<int64_t>()[t] * bytes, bytes);
  return {y};
}

std::vector<Tensor> rebuild_padding(const Tensor& x, const Tensor& indices, int batch, int length) {
  Shape shape = x.shape();
  const int64_t tokens = indices.numel();
  PD_CHECK(shape[0] == tokens, "x has ", shape[0], " rows and indices ", tokens);
  expect_indices(indices, x, (int64_t)batch * length);
  const int64_t bytes = tokens ? x.numel() / tokens * phi::SizeOf(x.dtype()) : 0;
  shape[0] = length;
  shape.insert(shape.begin(), batch);
  QWENVL_IF_ON_GPU(x, {gpu::scatter_rows(x, indices, (int64_t)batch * length, shape)});
  Tensor y = empty(shape, x.dtype(), x);
  memset(y.data(), 0, y.numel() * phi::SizeOf(x.dtype()));
  for (int64_t t = 0; t < tokens; ++t)
    memcpy((char*)y.data() + indices.data<int64_t>()[t] * bytes, (const char*)x.data() + t * bytes, bytes);
  return {y};
}

std::vector<Shape> get_padding_offset_shape(Shape mask) { return {{-1}, {mask[0] < 0 ? -1 : mask[0] + 1}}; }
std::vector<DataType> get_padding_offset_dtype(DataType) { return {DataType::INT64, DataType::INT32}; }
std::vector<Shape> transpose_remove_padding_shape(Shape x, Shape indices) {
  x.erase(x.begin());
  x[0] = indices[0];
  return {x};
}
std::vector<DataType> transpose_remove_padding_dtype(DataType x, DataType) { return {x}; }
std::vector<Shape> rebuild_padding_shape(Shape x, Shape, int batch, int length) {
  x[0] = length;
  x.insert(x.begin(), batch);
  return {x};
}
std::vector<DataType> rebuild_padding_dtype(DataType x, DataType) { return {x}; }

}  // namespace qwenvl

QWENVL_BUILD_OP(get_padding_offset)
    .Inputs({"attention_mask"})
    .Outputs({"indices", "cu_seqlens"});

QWENVL_BUILD_OP(transpose_remove_padding)
    .Inputs({"x", "indices"})
    .Outputs({"y"});

QWENVL_BUILD_OP(rebuild_padding)
    .Inputs({"x", "indices"})
    .Outputs({"y"})
    .Attrs({"batch: int", "length: int"});
