// Torch's own pool, so that torch.set_num_threads holds and no second pool competes for the cores.
#pragma once
#include <torch/csrc/stable/ops.h>

#include "../cpu/backend.h"
#include "../cpu/fork.h"

namespace fusedrnn::torch_ops {

inline void run_on_torch_pool(int64_t n, void (*body)(void*, int64_t), void* ctx) {
  if (cpu::pool_lost()) return cpu::run_in_order(n, body, ctx);
  torch::stable::parallel_for(0, n, 1, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) body(ctx, i);
  });
}

inline cpu::Threads torch_threads() { return {static_cast<int>(torch::stable::get_num_threads()), run_on_torch_pool}; }

}  // namespace fusedrnn::torch_ops
