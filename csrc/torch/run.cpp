#include "run.h"

#include "pool.h"

namespace fusedrnn::torch_ops {

void run_forward(const ForwardArgs& f) {
  const cpu::Kernels& kernels = cpu::kernels();
  const cpu::Threads threads = torch_threads();
  if (!kernels.step(f, threads)) kernels.forward(f, threads);
}

void run_backward(const BackwardArgs& b) { cpu::kernels().backward(b, torch_threads()); }

}  // namespace fusedrnn::torch_ops
