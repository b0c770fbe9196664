// The step family: per step one product with the recurrent weights and one fused kernel for everything else. Any shape,
// any option, any device. Arguments of its kernels; the letters are those of layer.h.
#pragma once
#include "family.h"
#include "rows.h"

namespace fusedrnn::cuda {

template <class T>
struct StepForward {
  Rows rows;
  Dims n;
  int64_t step;  // 0 .. T-1 in walking order; direction 0 is at t = step, direction 1 at t = T-1-step
  const T* gx;   // [D, T, B] rows of G*H, gx_ld apart; may share memory with gates
  int64_t gx_ld;
  const Acc<T>* rec;           // [D, B, G*H] W_hh h_{t-1}, or null where h_{t-1} = 0
  const T *b_ih[2], *b_hh[2];  // [G*H] each, or null
  const T *h0, *c0;            // [D, B, P], [D, B, H], or null
  T* state;       // [D, B, P] in/out: h as the next step's product sees it (zero where a reset cuts it off)
  Acc<T>* carry;  // [D, B, H] in/out: c, or h itself for cells that read h_{t-1} unit by unit; else null
  T* hidden_t;    // [D, B, H] out with projection: h before it, the operand of that product; else null
  T *y, *h_n, *c_n;
  T* gates;                 // [D, T, B, S*H] out or null
  Acc<T>*cells, *hidden;    // [D, T, B, H] out or null
  const Acc<T>* projected;  // [D, B, P] W_hr h, for the kernel after the projection
};

template <class T>
struct StepBackward {
  Rows rows;
  Dims n;
  int64_t step;
  const T *dy, *dhn, *dcn, *y, *h0, *c0, *gates;  // as in BackwardArgs
  const Acc<T>*cells, *hidden;
  const Acc<T>* drec;        // [D, B, P] d h_{t-1} that came through W_hh from the step handled before
  Acc<T>* carry;             // [D, B, H] in/out: dc, or the part of dh_{t-1} that does not pass through W_hh; or null
  const Acc<T>* dprojected;  // [D, B, H] dh before the projection, or null without one
  T* dgates;                 // [D, T, B, N*H] out
  T* dhidden;                // [D, T, B, P] out with projection, else null
  T *dh0, *dc0;              // [D, B, P], [D, B, H] out or null
};

// e = b * width + column. Most sizes fit 32 bits, where a division is several times cheaper.
__device__ __forceinline__ void split(int64_t e, int64_t width, int64_t& b, int64_t& column) {
  if (((e | width) >> 32) == 0) {
    const uint32_t q = static_cast<uint32_t>(e) / static_cast<uint32_t>(width);
    b = q;
    column = static_cast<uint32_t>(e) - q * static_cast<uint32_t>(width);
  } else {
    b = e / width;
    column = e - b * width;
  }
}

// A thread's place in a kernel of the step family: one thread per (direction, row, column of `width`).
struct StepPlace {
  bool inside;  // there is such a row and column; otherwise nothing else is set
  int d;
  int64_t b, column;
  int64_t length;  // of the row
  int64_t t;       // of the step, where the kernel has one

  template <class Args>
  __device__ __forceinline__ StepPlace(const Args& s, int64_t width) {
    const int64_t e = element();
    inside = e < s.n.B * width;
    if (!inside) return;
    d = static_cast<int>(blockIdx.y);
    split(e, width, b, column);
    t = d ? s.n.T - 1 - s.step : s.step;
    length = s.rows.length(b);
  }
};

// The recurrent weights (and the projection's) of all directions at one stride, so that one batched product serves both
// directions. With one direction they are the caller's own memory, with two a copy.
struct PackedWeights {
  const void *hh, *hr;
  int64_t stride_hh, stride_hr;  // elements
};
inline PackedWeights pack_weights(const ForwardArgs& a, int64_t GH, const Runtime& rt) {
  const Dims& n = a.n;
  PackedWeights w{a.w[0].hh, a.w[0].hr, GH * n.P, n.P * n.H};
  if (n.D == 1) return w;
  auto pack = [&](const void* first, const void* second, int64_t count) -> const void* {
    const size_t bytes = static_cast<size_t>(count) * size_of(a.dtype);
    void* to = rt.alloc(rt.ctx, 2 * bytes);
    check(cudaMemcpyAsync(to, first, bytes, cudaMemcpyDeviceToDevice, rt.stream), "weight copy");
    check(cudaMemcpyAsync(at(to, count, a.dtype), second, bytes, cudaMemcpyDeviceToDevice, rt.stream), "weight copy");
    return to;
  };
  w.hh = pack(a.w[0].hh, a.w[1].hh, w.stride_hh);
  if (a.w[0].hr) w.hr = pack(a.w[0].hr, a.w[1].hr, w.stride_hr);
  return w;
}

}  // namespace fusedrnn::cuda
