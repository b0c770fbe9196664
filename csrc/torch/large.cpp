#include "large.h"

#include "../cpu/blocks.h"

// Since torch 2.11; null where torch is older. The deleter is called with data and deleter_ctx.
extern "C" __attribute__((weak)) AOTITorchError
torch_from_blob(void* data, int64_t ndim, const int64_t* sizes_ptr, const int64_t* strides_ptr, int64_t storage_offset,
                int32_t dtype, int32_t device_type, int32_t device_index, AtenTensorHandle* ret, int32_t layout,
                const uint8_t* opaque_metadata, int64_t opaque_metadata_size, void (*deleter)(void* data, void* ctx),
                void* deleter_ctx);

namespace fusedrnn::torch_ops {
namespace {

void give(void* data, void* size) { cpu::give_block({data, reinterpret_cast<size_t>(size)}); }

}  // namespace

Tensor make_large(const Tensor& like, const Extent& size, ScalarType type) {
  int64_t strides[4], count = 1;
  for (int64_t i = size.dims; i-- > 0; count *= size.size[i]) strides[i] = count;
  const size_t bytes = size_t(count) * (type == ScalarType::Double ? 8 : 4);
  if (bytes < cpu::kLeastBlock || !torch_from_blob) return make_empty(like, size, type);
  const cpu::Block block = cpu::take_block(bytes);
  if (!block.data) return make_empty(like, size, type);  // and its error
  AtenTensorHandle made = nullptr;
  const AOTITorchError failed = torch_from_blob(block.data, size.dims, size.size, strides, 0,
                                                torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)),
                                                aoti_torch_device_type_cpu(), -1, &made, aoti_torch_layout_strided(),
                                                nullptr, 0, give, reinterpret_cast<void*>(block.size));
  TORCH_ERROR_CODE_CHECK(failed);  // without giving the block back, which torch may have done
  return Tensor(made);
}

}  // namespace fusedrnn::torch_ops
