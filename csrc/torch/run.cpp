#include "run.h"

#include "../cells/all.h"
#include "../cpu/scratch.h"
#include "pool.h"

namespace fusedrnn::torch_ops {
namespace {

size_t element_bytes(DType t) { return t == DType::f64 ? 8 : t == DType::f32 ? 4 : 2; }

// The largest outputs: sequences, and the gradients of matrices.
void expect_outputs(const ForwardArgs& f) {
  const Dims& n = f.n;
  const size_t own = element_bytes(f.dtype), acc = f.dtype == DType::f64 ? 8 : 4;
  const size_t saved = size_t(n.D * f.saved_rows() * n.H) * acc;
  cpu::expect_writes(f.y, size_t(n.D * f.rows() * n.P) * own);
  cpu::expect_writes(f.gates, saved * cells::kCells[f.cell].S);
  cpu::expect_writes(f.cells, saved);
  cpu::expect_writes(f.hidden, saved);
}
void expect_outputs(const BackwardArgs& b) {
  const Dims& n = b.f.n;
  const size_t own = element_bytes(b.f.dtype), gates = size_t(cells::kCells[b.f.cell].G * n.H);
  cpu::expect_writes(b.dx, size_t(b.f.rows() * n.I) * own);
  for (const WeightGrads& w : b.dw) {
    cpu::expect_writes(w.ih, gates * n.I * own);
    cpu::expect_writes(w.hh, gates * n.P * own);
  }
}

}  // namespace

void run_forward(const ForwardArgs& f) {
  const cpu::Kernels& kernels = cpu::kernels();
  const cpu::Threads threads = torch_threads();
  expect_outputs(f);
  if (!kernels.step(f, threads)) kernels.forward(f, threads);
}

void run_backward(const BackwardArgs& b) {
  expect_outputs(b);
  cpu::kernels().backward(b, torch_threads());
}

}  // namespace fusedrnn::torch_ops
