// The table of one instruction set's kernels.
#include <type_traits>

#include "simd.h"

namespace qwenvl {
namespace QWENVL_ISA {

#define KERNEL(name) std::remove_pointer_t<decltype(QwenvlCpuKernels::name)> name
KERNEL(rms_norm);
KERNEL(layer_norm);
KERNEL(swiglu);
KERNEL(norm_gradient);
KERNEL(swiglu_gradient);
KERNEL(add_bias);
KERNEL(column_sums);
KERNEL(mrope_tables);
KERNEL(rotary);
KERNEL(qkv_split);
KERNEL(qkv_split_gradient);
KERNEL(write_cache);
KERNEL(qkv_write_cache);
KERNEL(varlen_attention);
KERNEL(qkv_attention);
KERNEL(attention_gradient);
KERNEL(cached_attention);
KERNEL(decode_attention);
KERNEL(few_rows);
KERNEL(linear);
KERNEL(linear_swiglu);
KERNEL(linear_int4);
KERNEL(linear_int4_swiglu);
KERNEL(int4_to_bfloat16);
KERNEL(embedding);
KERNEL(quantize);
KERNEL(to_float32);
KERNEL(to_bfloat16);
KERNEL(widen_to_bfloat16);
KERNEL(sample);
KERNEL(log_probability);
#undef KERNEL

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
#ifdef QWENVL_INTEGER_PRODUCTS
constexpr int INTEGER_PRODUCTS = 1;
#else
constexpr int INTEGER_PRODUCTS = 0;
#endif
#ifdef QWENVL_BFLOAT16_PRODUCTS
constexpr int BFLOAT16_PRODUCTS = 1;
#else
constexpr int BFLOAT16_PRODUCTS = 0;
#endif
#ifdef QWENVL_TILES
constexpr int TILES = 1;
#else
constexpr int TILES = 0;
#endif
extern const QwenvlCpuKernels kernels = {
    NAME(QWENVL_ISA), INTEGER_PRODUCTS, BFLOAT16_PRODUCTS, TILES, W > 4, rms_norm, layer_norm, swiglu, norm_gradient,
    swiglu_gradient, add_bias, column_sums, mrope_tables, rotary, qkv_split, qkv_split_gradient, write_cache,
    qkv_write_cache, varlen_attention, qkv_attention, attention_gradient, cached_attention, decode_attention, few_rows,
    linear, linear_swiglu, linear_int4, linear_int4_swiglu, int4_to_bfloat16, embedding, quantize, to_float32,
    to_bfloat16, widen_to_bfloat16, sample, log_probability,
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl
