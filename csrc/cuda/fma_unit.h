// What one thread does for its (unit, row) in the fma family, forward and backward: its inputs from device memory, the
// cell, its outputs. T is the storage type; everything is computed in float32.
#pragma once
#include "fma_kernels.h"

namespace fusedrnn::cuda {

// Pointers as in Recurrence (family.h).
template <class T>
struct FmaForward {
  FmaShape s;
  Rows rows;
  int64_t H;
  int D;
  const T *w[2], *b_ih[2], *b_hh[2];
  const T* gx;  // may be the memory of gates
  int64_t gx_ld;
  const T *h0, *c0;
  T *y, *h_n, *c_n, *gates;
  float* cells;
};

// What a thread needs of a step, forward; asked for two steps ahead.
template <class Cell, class T>
struct FmaInputs {
  T x[Cell::G];
  bool cut;

  __device__ __forceinline__ void load(const FmaForward<T>& a, const FmaPlace& p, int64_t s) {
    const bool live = p.mine && s < p.length;
    const T* from = a.gx + (live ? ((p.d * a.rows.T + p.time(s)) * a.rows.B + p.b) * a.gx_ld + p.unit : 0);
#pragma unroll
    for (int g = 0; g < Cell::G; g++) {
      x[g] = narrow<T>(0.f);
      if (live) x[g] = from[g * a.H];
    }
    cut = live && p.cut(a.rows, s);
  }
};

// h0 of the team's rows, all units, into shared memory [N, K] with zeros around.
template <class T>
__device__ __forceinline__ void load_h0(const FmaShape& s, const FmaPlace& p, const FmaForward<T>& a, float* to) {
  for (int e = static_cast<int>(threadIdx.x); e < s.N * s.K; e += kFmaThreads) {
    const int n = e / s.K, k = e - n * s.K;
    const bool given = a.h0 && k < a.H && p.first_row + n < a.rows.B;
    to[e] = given ? widen(a.h0[(p.d * a.rows.B + p.first_row + n) * a.H + k]) : 0.f;
  }
}

// The thread's (unit, row), forward: biases, and the state from step to step.
template <class Cell, class T>
struct FmaUnit {
  float x_bias[Cell::G], h_bias[Cell::G], h, c, saved[Cell::S ? Cell::S : 1];

  // Reads the initial state, and writes the zeros past the row's end.
  __device__ __forceinline__ void start(const FmaForward<T>& a, const FmaPlace& p) {
#pragma unroll
    for (int g = 0; g < Cell::G; g++) {
      const bool has = a.b_ih[p.d] && p.mine;
      x_bias[g] = has ? widen(a.b_ih[p.d][g * a.H + p.unit]) : 0.f;
      h_bias[g] = has ? widen(a.b_hh[p.d][g * a.H + p.unit]) : 0.f;
    }
    const int64_t state = (p.d * a.rows.B + p.b) * a.H + p.unit;
    h = p.mine && a.h0 ? widen(a.h0[state]) : 0.f;
    c = p.mine && a.c0 ? widen(a.c0[state]) : 0.f;
    for (int64_t t = p.length; p.mine && t < a.rows.T; t++)
      a.y[((t * a.rows.B + p.b) * a.D + p.d) * a.H + p.unit] = narrow<T>(0.f);
  }
  // One step from the parts' sums [parts, N, rows]. The state of a row that has ended stays.
  __device__ __forceinline__ void step(const FmaShape& s, const FmaPlace& p, const float* sums,
                                       const FmaInputs<Cell, T>& in, bool live) {
    float rec[Cell::G];
#pragma unroll
    for (int g = 0; g < Cell::G; g++) rec[g] = 0.f;
    for (int q = 0; q < s.parts; q++) {
#pragma unroll
      for (int g = 0; g < Cell::G; g++) rec[g] += sums[(q * s.N + p.n) * s.rows + g * s.units + p.u];
    }
    step(rec, in, live);
  }
  // One step from the recurrent products [G].
  __device__ __forceinline__ void step(const float* products, const FmaInputs<Cell, T>& in, bool live) {
    float x[Cell::G], rec[Cell::G];
#pragma unroll
    for (int g = 0; g < Cell::G; g++) {
      x[g] = widen(in.x[g]) + x_bias[g];
      rec[g] = (in.cut ? 0.f : products[g]) + h_bias[g];
    }
    float h_new, c_new = 0.f;
    Cell::forward(x, rec, in.cut ? 0.f : h, in.cut ? 0.f : c, h_new, c_new, saved);
    if (!live) return;
    h = h_new;
    c = c_new;
  }
  __device__ __forceinline__ void store(const FmaForward<T>& a, const FmaPlace& p, int64_t s) const {
    const int64_t at = p.time(s) * a.rows.B + p.b, row = p.d * a.rows.T * a.rows.B + at;
    a.y[(at * a.D + p.d) * a.H + p.unit] = narrow<T>(h);
    if (Cell::S && a.gates) {
      T* out = a.gates + row * Cell::S * a.H + p.unit;
#pragma unroll
      for (int g = 0; g < Cell::S; g++) out[g * a.H] = narrow<T>(saved[g]);
    }
    if (Cell::has_cell && a.cells) a.cells[row * a.H + p.unit] = c;
  }
  __device__ __forceinline__ void finish(const FmaForward<T>& a, const FmaPlace& p) const {
    if (!p.mine) return;
    const int64_t state = (p.d * a.rows.B + p.b) * a.H + p.unit;
    a.h_n[state] = narrow<T>(h);
    if (Cell::has_cell) a.c_n[state] = narrow<T>(c);
  }
};

// Pointers as in RecurrenceGrad.
template <class T>
struct FmaBackward {
  FmaShape s;
  Rows rows;
  int64_t H;
  int D;
  const T* w[2];
  const T* gates;
  const float* cells;
  const T *y, *h0, *c0, *dy, *dhn, *dcn;
  T *dgates, *dh0, *dc0;
};

// What a thread needs of a step, backward; asked for two steps ahead.
template <class Cell, class T>
struct FmaSaved {
  T dy, gates[Cell::S ? Cell::S : 1], h, h_before;  // h_before: of the step before, zero across a cut
  float c, c_before;
  bool cut;

  __device__ __forceinline__ void load(const FmaBackward<T>& a, const FmaPlace& p, int64_t s) {
    const bool live = p.mine && s >= 0 && s < p.length;
    const int64_t B = a.rows.B, H = a.H, t = live ? p.time(s) : 0;
    const int64_t row = (p.d * a.rows.T + t) * B + p.b, out = ((t * B + p.b) * a.D + p.d) * H + p.unit;
    const int64_t back = p.d ? B : -B, state = (p.d * B + p.b) * H + p.unit;
    dy = h = h_before = narrow<T>(0.f);
    c = c_before = 0.f;
    cut = live && p.cut(a.rows, s);
    if (live && a.dy) dy = a.dy[out];
    if (live && Cell::S == 0) h = a.y[out];
    if (live && Cell::has_cell) c = a.cells[row * H + p.unit];
#pragma unroll
    for (int g = 0; g < Cell::S; g++) {
      gates[g] = narrow<T>(0.f);
      if (live) gates[g] = a.gates[(row * Cell::S + g) * H + p.unit];
    }
    if (!live || cut) return;
    if (Cell::has_cell && s > 0) c_before = a.cells[(row + back) * H + p.unit];
    if (Cell::has_cell && s == 0 && a.c0) c_before = widen(a.c0[state]);
    if (Cell::reads_h_prev && s > 0) h_before = a.y[out + back * a.D * H];
    if (Cell::reads_h_prev && s == 0 && a.h0) h_before = a.h0[state];
  }
};

// The thread's (unit, row), backward.
template <class Cell, class T>
struct FmaUnitGrad {
  float carry = 0.f;       // dc, or the part of dh that does not pass through W_hh
  bool cut_after = false;  // whether the step handled before had cut this state off

  // Writes the zeros past the row's end.
  __device__ __forceinline__ void start(const FmaBackward<T>& a, const FmaPlace& p) const {
    for (int64_t t = p.length; p.mine && t < a.rows.T; t++)
      for (int g = 0; g < Cell::N; g++)
        a.dgates[(((p.d * a.rows.T + t) * a.rows.B + p.b) * Cell::N + g) * a.H + p.unit] = narrow<T>(0.f);
  }
  // dh: what came through W_hh from the step handled before. The h side's gradients go to dg [N, rows], rounded as they
  // are stored, and all of them to memory.
  __device__ __forceinline__ void step(const FmaBackward<T>& a, const FmaPlace& p, int64_t s, float dh,
                                       const FmaSaved<Cell, T>& in, float* dg) {
    const FmaShape& shape = a.s;
    const bool live = p.mine && s < p.length;
    float* const own = dg + p.n * shape.rows + p.u;
    if (live) {
      const int64_t state = (p.d * a.rows.B + p.b) * a.H + p.unit;
      float total = widen(in.dy), dc = 0.f, direct = 0.f, grad[Cell::N], saved[Cell::S ? Cell::S : 1];
#pragma unroll
      for (int g = 0; g < Cell::S; g++) saved[g] = widen(in.gates[g]);
      if (s == p.length - 1) {
        total += a.dhn ? widen(a.dhn[state]) : 0.f;
        dc = Cell::has_cell && a.dcn ? widen(a.dcn[state]) : 0.f;
      } else if (!cut_after) {
        total += Cell::reads_h_prev ? dh + carry : dh;
        dc = carry;
      }
      Cell::backward(saved, widen(in.h), widen(in.h_before), in.c, in.c_before, total, dc, direct, grad);
      carry = Cell::has_cell ? dc : direct;
#pragma unroll
      for (int g = 0; g < Cell::G; g++) own[g * shape.units] = widen(narrow<T>(grad[Cell::h_first + g]));
      // After what the block waits for.
      T* out = a.dgates + ((p.d * a.rows.T + p.time(s)) * a.rows.B + p.b) * Cell::N * a.H + p.unit;
#pragma unroll
      for (int g = 0; g < Cell::N; g++) out[g * a.H] = narrow<T>(grad[g]);
    } else {
#pragma unroll
      for (int g = 0; g < Cell::G; g++) own[g * shape.units] = 0.f;
    }
    cut_after = in.cut;
  }
  // arrived: what came through W_hh from step 0.
  __device__ __forceinline__ void finish(const FmaBackward<T>& a, const FmaPlace& p, float arrived) const {
    if (!p.mine) return;
    const int64_t state = (p.d * a.rows.B + p.b) * a.H + p.unit;
    float dh0 = a.dhn ? widen(a.dhn[state]) : 0.f, dc0 = Cell::has_cell && a.dcn ? widen(a.dcn[state]) : 0.f;
    if (p.length > 0) {
      dh0 = cut_after ? 0.f : Cell::reads_h_prev ? arrived + carry : arrived;
      dc0 = cut_after ? 0.f : carry;
    }
    if (a.dh0) a.dh0[state] = narrow<T>(dh0);
    if (Cell::has_cell && a.dc0) a.dc0[state] = narrow<T>(dc0);
  }
};

}  // namespace fusedrnn::cuda
