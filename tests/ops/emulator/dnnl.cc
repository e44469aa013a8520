// What external_ops/csrc/cpu calls of oneDNN, in plain C++, as on a CPU that has what ONEDNN_MAX_CPU_ISA names, or AMX.
#include <stdlib.h>
#include <string.h>

#include "onednn.h"

struct dnnl_memory_desc {
  int dtype;
  int64_t dims[2], strides[2];
};
struct dnnl_memory {
  dnnl_memory_desc desc;
  void* data;
};
struct dnnl_primitive_desc {
  bool bias;
};
struct dnnl_primitive : dnnl_primitive_desc {};

static float number(const dnnl_memory& memory, int64_t i, int64_t j) {
  const int64_t at = i * memory.desc.strides[0] + j * memory.desc.strides[1];
  if (memory.desc.dtype == dnnl_f32) return ((const float*)memory.data)[at];
  const uint32_t bits = (uint32_t)((const uint16_t*)memory.data)[at] << 16;
  float y;
  memcpy(&y, &bits, 4);
  return y;
}

extern "C" {

int dnnl_get_effective_cpu_isa(void) {
  const char* most = getenv("ONEDNN_MAX_CPU_ISA");
  if (!most || !*most) return dnnl_cpu_isa_avx512_core_amx;
  return strcmp(most, "AVX512_CORE_BF16") ? 0x27 : dnnl_cpu_isa_avx512_core_bf16;
}

int dnnl_engine_create(dnnl_engine_t*, int, size_t) { return dnnl_success; }
int dnnl_stream_create(dnnl_stream_t* stream, dnnl_engine_t, unsigned) {
  *stream = (dnnl_stream_t)stream;  // any that is not null
  return dnnl_success;
}
int dnnl_stream_wait(dnnl_stream_t) { return dnnl_success; }

int dnnl_memory_desc_create_with_strides(dnnl_memory_desc_t* desc, int, const dnnl_dims_t dims, int dtype,
                                         const dnnl_dims_t strides) {
  *desc = new dnnl_memory_desc{dtype, {dims[0], dims[1]}, {strides[0], strides[1]}};
  return dnnl_success;
}
int dnnl_memory_desc_destroy(dnnl_memory_desc_t desc) {
  delete desc;
  return dnnl_success;
}
int dnnl_memory_create(dnnl_memory_t* memory, dnnl_memory_desc_t desc, dnnl_engine_t, void* data) {
  *memory = new dnnl_memory{*desc, data};
  return dnnl_success;
}
int dnnl_memory_set_data_handle(dnnl_memory_t memory, void* data) {
  memory->data = data;
  return dnnl_success;
}
int dnnl_memory_destroy(dnnl_memory_t memory) {
  delete memory;
  return dnnl_success;
}

int dnnl_matmul_primitive_desc_create(dnnl_primitive_desc_t* desc, dnnl_engine_t, dnnl_memory_desc_t,
                                      dnnl_memory_desc_t, dnnl_memory_desc_t bias, dnnl_memory_desc_t, const void*) {
  *desc = new dnnl_primitive_desc{bias != nullptr};
  return dnnl_success;
}
int dnnl_primitive_desc_destroy(dnnl_primitive_desc_t desc) {
  delete desc;
  return dnnl_success;
}
int dnnl_primitive_create(dnnl_primitive_t* primitive, dnnl_primitive_desc_t desc) {
  *primitive = new dnnl_primitive{*desc};
  return dnnl_success;
}
int dnnl_primitive_destroy(dnnl_primitive_t primitive) {
  delete primitive;
  return dnnl_success;
}

int dnnl_primitive_execute(dnnl_primitive_t primitive, dnnl_stream_t, int count, const dnnl_exec_arg_t* args) {
  const dnnl_memory *x = nullptr, *weight = nullptr, *bias = nullptr, *y = nullptr;
  for (int i = 0; i < count; ++i) {
    if (args[i].arg == DNNL_ARG_SRC) x = args[i].memory;
    if (args[i].arg == DNNL_ARG_WEIGHTS) weight = args[i].memory;
    if (args[i].arg == DNNL_ARG_BIAS) bias = args[i].memory;
    if (args[i].arg == DNNL_ARG_DST) y = args[i].memory;
  }
  if (!x || !weight || !y || primitive->bias != (bias != nullptr)) return 1;
  for (int64_t i = 0; i < y->desc.dims[0]; ++i)
    for (int64_t j = 0; j < y->desc.dims[1]; ++j) {
      float sum = bias ? number(*bias, 0, j) : 0.0f;
      for (int64_t l = 0; l < x->desc.dims[1]; ++l) sum += number(*x, i, l) * number(*weight, l, j);
      ((float*)y->data)[i * y->desc.strides[0] + j * y->desc.strides[1]] = sum;
    }
  return dnnl_success;
}

int dnnl_sgemm(char, char, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda, const float* b,
               int64_t ldb, float, float* c, int64_t ldc) {  // as it is called: b is transposed, c is new
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < k; ++l) sum += a[i * lda + l] * b[j * ldb + l];
      c[i * ldc + j] = alpha * sum;
    }
  return dnnl_success;
}
}
