// What is used of the C interface of oneDNN 3 (dnnl.h, dnnl_types.h), declared here: Paddle brings the library along without
// its headers. Within a major version, which is part of the library's name, this interface does not change.
#pragma once

#include <omp.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

extern "C" {
typedef struct dnnl_engine* dnnl_engine_t;
typedef struct dnnl_stream* dnnl_stream_t;
typedef struct dnnl_memory_desc* dnnl_memory_desc_t;
typedef struct dnnl_memory* dnnl_memory_t;
typedef struct dnnl_primitive_desc* dnnl_primitive_desc_t;
typedef struct dnnl_primitive* dnnl_primitive_t;
typedef int64_t dnnl_dims_t[12];
typedef struct {
  int arg;
  dnnl_memory_t memory;
} dnnl_exec_arg_t;

enum { dnnl_success = 0, dnnl_cpu = 1, dnnl_stream_default_flags = 1 };
enum { dnnl_bf16 = 2, dnnl_f32 = 3 };
enum { DNNL_ARG_SRC = 1, DNNL_ARG_DST = 17, DNNL_ARG_WEIGHTS = 33, DNNL_ARG_BIAS = 41 };
enum { dnnl_cpu_isa_avx512_core_bf16 = 0xe7, dnnl_cpu_isa_avx512_core_amx = 0xfef };

int dnnl_get_effective_cpu_isa(void);
int dnnl_engine_create(dnnl_engine_t* engine, int kind, size_t index);
int dnnl_stream_create(dnnl_stream_t* stream, dnnl_engine_t engine, unsigned flags);
int dnnl_stream_wait(dnnl_stream_t stream);
int dnnl_memory_desc_create_with_strides(dnnl_memory_desc_t* desc, int ndims, const dnnl_dims_t dims, int dtype,
                                         const dnnl_dims_t strides);
int dnnl_memory_desc_destroy(dnnl_memory_desc_t desc);
int dnnl_memory_create(dnnl_memory_t* memory, dnnl_memory_desc_t desc, dnnl_engine_t engine, void* handle);
int dnnl_memory_set_data_handle(dnnl_memory_t memory, void* handle);
int dnnl_memory_destroy(dnnl_memory_t memory);
int dnnl_matmul_primitive_desc_create(dnnl_primitive_desc_t* desc, dnnl_engine_t engine, dnnl_memory_desc_t src,
                                      dnnl_memory_desc_t weights, dnnl_memory_desc_t bias, dnnl_memory_desc_t dst,
                                      const void* attributes);
int dnnl_primitive_desc_destroy(dnnl_primitive_desc_t desc);
int dnnl_primitive_create(dnnl_primitive_t* primitive, dnnl_primitive_desc_t desc);
int dnnl_primitive_destroy(dnnl_primitive_t primitive);
int dnnl_primitive_execute(dnnl_primitive_t primitive, dnnl_stream_t stream, int count, const dnnl_exec_arg_t* args);

// C [m, n] = alpha A B + beta C, row-major; 'T' for a transposed operand.
int dnnl_sgemm(char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,
               int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc);
}

namespace qwenvl {

// oneDNN takes as many threads as OpenMP would: while this lives, as many as the kernels take.
class OneDnnThreads {
 public:
  OneDnnThreads() : before_(omp_get_max_threads()) { omp_set_num_threads(qwenvl_threads()); }
  ~OneDnnThreads() { omp_set_num_threads(before_); }
  OneDnnThreads(const OneDnnThreads&) = delete;

 private:
  int before_;
};

}  // namespace qwenvl
