// What a family of kernels is: the recurrent part of a layer, and nothing else. Common to all families (layer.cu) are
//   before forward:  gx = x W_ih^T for all steps, one GEMM per direction (or a row gather for token ids);
//   after backward:  dW_ih, dW_hh, dW_hr, the bias gradients and dx, GEMMs and column sums over `dgates`.
// A persistent family is plan_<family>.cpp (may it run? host C++ alone), launch_<family>.cu and its kernels.
// Torch-free; everything is enqueued on one stream, allocates through `Runtime` and never waits for the device.
#pragma once
#include <cuda_runtime.h>

#include "plan.h"

namespace fusedrnn::cuda {

// One product, row-major, over `batch` pairs of matrices: C[m, n] = A[m, k] op(B) + beta * C, accumulated in the
// accumulation type. `ta`: A is stored [k, m]; `tb`: B is stored [n, k]. Leading dimensions and strides in elements.
struct Product {
  bool ta, tb;
  int64_t m, n, k;
  const void* a;
  int64_t lda, stride_a;
  const void* b;
  int64_t ldb, stride_b;
  void* c;
  int64_t ldc, stride_c;
  int64_t batch;
  DType in, out;  // of A and B, and of C: equal, or out = f32 for half inputs
  double beta;    // 0 (C is not read) or 1
};

// What a call runs with. The torch side fills it with torch's allocator, stream and cuBLAS handle; the emulator tests
// with malloc and a triple loop.
struct Runtime {
  Device device;
  cudaStream_t stream;
  bool tf32;  // float32 products may use TF32; otherwise they are exact
  void* ctx;
  void* (*alloc)(void* ctx, size_t bytes);  // device memory that lives until the call's work is enqueued; 256-aligned
  void (*gemm)(void* ctx, const Product& p);

  template <class T>
  T* take(int64_t count) const {
    return static_cast<T*>(alloc(ctx, static_cast<size_t>(count > 0 ? count : 1) * sizeof(T)));
  }
};

// The recurrent part of forward. `a` is complete; a family writes a.y, a.h_n, a.c_n and, where not null, a.gates,
// a.cells and a.hidden (which must be finite also at t >= len: dW_hr multiplies it with zeros).
struct Recurrence {
  ForwardArgs a;
  // x W_ih^T without any bias, [D, T, B] rows of G*H elements of dtype in the gate order of the weights, `gx_ld`
  // elements from row to row (directions are T*B*gx_ld apart). The family adds b_ih and b_hh in the accumulation type.
  // May be the memory of a.gates (then gx_ld = S*H): the columns u, H+u, .. of a row belong to unit u alone, so a
  // kernel that reads a unit's gx before it writes that unit's gates is safe, in whatever order units and steps run. It
  // may be written.
  void* gx;
  int64_t gx_ld;
};

// The recurrent part of backward. A family writes b.dh0, b.dc0 (where not null) and `dgates`, and reads no dw, no dx.
struct RecurrenceGrad {
  BackwardArgs b;
  // d(loss)/d(pre-activation), [D, T, B, K*H] of dtype, K = max(S, 1): lstm i,f,g,o; gru n,r,z,q (slots n,r,z belong to
  // W_ih's rows n,r,z; slots r,z,q to W_hh's rows r,z,n); elman one. Zero at t >= len.
  void* dgates;
  // With projection: d(loss)/d h_t of each step, the sum of dy and what came back through time, [D, T, B, P] of dtype,
  // zero at t >= len; from it dW_hr is formed. Null otherwise.
  void* dhidden;
};

// refused: the launch did not happen (occupancy, a limit, a missing image) and nothing was written, so the step family
// can take over. Any other failure throws std::runtime_error.
enum class Launch { done, refused };

Launch step_forward(const Plan& plan, const Recurrence& r, const Runtime& rt);
Launch step_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt);
Launch block_forward(const Plan& plan, const Recurrence& r, const Runtime& rt);
Launch block_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt);
Launch cluster_forward(const Plan& plan, const Recurrence& r, const Runtime& rt);
Launch cluster_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt);
Launch fma_forward(const Plan& plan, const Recurrence& r, const Runtime& rt);
Launch fma_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt);
Launch grid_forward(const Plan& plan, const Recurrence& r, const Runtime& rt);
Launch grid_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt);

// The whole layer: plan, projection, recurrence (with the fallback to the step family, said once on stderr), and the
// products after it. Enqueues only; throws std::runtime_error with what failed.
void layer_forward(const ForwardArgs& a, const Runtime& rt);
void layer_backward(const BackwardArgs& b, const Runtime& rt);

}  // namespace fusedrnn::cuda
