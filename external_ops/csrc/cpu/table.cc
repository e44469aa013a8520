// The table of one instruction set's kernels.
#include <type_traits>

#include "kernels.h"

namespace qwenvl {
namespace QWENVL_ISA {

#define KERNEL(name) std::remove_pointer_t<decltype(QwenvlCpuKernels::name)> name
KERNEL(rms_norm);
KERNEL(layer_norm);
KERNEL(swiglu);
KERNEL(rotary);
KERNEL(qkv_split);
KERNEL(write_cache);
KERNEL(qkv_write_cache);
KERNEL(varlen_attention);
KERNEL(cached_attention);
KERNEL(decode_attention);
KERNEL(linear);
KERNEL(quantize);
KERNEL(to_float32);
KERNEL(to_bfloat16);
KERNEL(int8_to_bfloat16);
KERNEL(sample);
#undef KERNEL

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const QwenvlCpuKernels kernels = {
    NAME(QWENVL_ISA), rms_norm, layer_norm, swiglu, rotary, qkv_split, write_cache, qkv_write_cache,
    varlen_attention, cached_attention, decode_attention, linear, quantize, to_float32, to_bfloat16, int8_to_bfloat16, sample,
};

}  // namespace QWENVL_ISA
}  // namespace qwenvl
