// Backward: scratch, the float forms of half types, packed weights.
#pragma once
#include "backward.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
void Backward<T>::take_weights(Arena& arena) {
  const int64_t GH = G * n.H;
  const bool widen_weights = half && elements == 1;
  w_ih = widen_weights ? arena.take<T>(GH * n.I) : nullptr;
  w_hh = widen_weights ? arena.take<T>(GH * n.P) : nullptr;
  w_hr = half && project ? arena.take<T>(n.P * n.H) : nullptr;
  dw_ih = half ? arena.take<T>(GH * n.I) : nullptr;
  dw_hh = half ? arena.take<T>(GH * n.P) : nullptr;
  dw_hr = half && project ? arena.take<T>(n.P * n.H) : nullptr;
  db_ih = half ? arena.take<T>(GH) : nullptr;
  db_hh = half ? arena.take<T>(GH) : nullptr;
  packed_hh = arena.take<T>(G * gate_cells * outs.blocks * L);
  packed_hr = project ? arena.take<T>(n.P * units.blocks * L) : nullptr;
  packed_ih = b.dx ? arena.take<T>(G * gate_cells * inputs.blocks * L) : nullptr;
  zeros = arena.take<T>(max64(N * n.H, n.P) + L);
  d_table = a.ids ? arena.take<T>(n.I * GH) : nullptr;
}

template <class T>
void Backward<T>::take_sums(Arena& arena) {
  const auto wanted = [](const WeightGrads& w) { return w.ih || w.hh || w.b_ih || w.b_hh || w.hr; };
  if (!by_group || !(wanted(b.dw[0]) || wanted(b.dw[1]))) return;
  const int64_t GH = G * n.H;
  for (int g = 1; g < split.groups; g++) {
    Sums<T>& s = more[g];
    s = {a.ids ? nullptr : arena.take<T>(GH * n.I),
         arena.take<T>(GH * n.P),
         arena.take<T>(GH),
         arena.take<T>(GH),
         project ? arena.take<T>(n.P * n.H) : nullptr,
         a.ids ? arena.take<T>(n.I * GH) : nullptr};
  }
}

template <class T>
void Backward<T>::take_rows(Arena& arena) {
  const int64_t steps = chunk_steps * n.B;
  h0 = half && a.h0 ? arena.take<T>(n.B * n.P) : nullptr;
  c0 = half && a.c0 ? arena.take<T>(n.B * n.H) : nullptr;
  dhn = half && b.dhn ? arena.take<T>(n.B * n.P) : nullptr;
  dh0 = half && b.dh0 ? arena.take<T>(n.B * n.P) : nullptr;
  x_chunk = half && a.x && elements == 1 ? arena.take<T>(steps * n.I) : nullptr;
  dy_chunk = half && b.dy ? arena.take<T>(steps * n.P) : nullptr;
  h_chunk = half && (elements == 1 || ops.reads_h_prev) ? arena.take<T>(steps * n.P) : nullptr;
  y_chunk = half && ops.reads_h && !project ? arena.take<T>(steps * n.P) : nullptr;
  dx_chunk = half && b.dx ? arena.take<T>(steps * n.I) : nullptr;
  ring = arena.take<T>((chunk_steps + 1) * n.B * N * gate_cells);
  ring_dh = project ? arena.take<T>((chunk_steps + 1) * n.B * n.P) : nullptr;
  carry_c = ops.has_cell ? arena.take<T>(n.B * n.H) : nullptr;
  carry_h = ops.reads_h_prev ? arena.take<T>(n.B * n.H) : nullptr;
}

template <class T>
void Backward<T>::take_own(Arena& arena) {
  const int64_t group = max64(ceil_div(max64(n.B, 1), split.groups), kMaxRows);
  const int64_t cut = by_group ? 1 : split.threads();
  const int64_t H_cell = ceil_div(n.H, cut) + kPanelRows, P_cell = ceil_div(n.P, cut) + kPanelRows;
  const int64_t packed = max64(PackedGradients<T>::size(N, H_cell, ceil_div(chunk_rows, elements)),
                               project ? PackedGradients<T>::size(1, P_cell, chunk_rows) : 0);
  for (int i = 0; i < split.threads(); i++) {
    Own& o = own[i];
    o.wait = arena.take<T>(group * kMaxColumns * L);
    o.packed = arena.take<T>(packed);
    o.spare = arena.take<T>((chunk_rows + kMaxRows) * kMaxColumns * L);
    o.sum = arena.take<T>(max64(H_cell, P_cell) + 3 * L);
    for (auto& l : o.list) l = arena.take<const T*>(n.B);
    o.d_row = arena.take<const T*>(chunk_rows);
    o.dh_row = arena.take<const T*>(chunk_rows);
    o.x_row = arena.take<const T*>(chunk_rows);
    o.h_row = arena.take<const T*>(chunk_rows);
    o.hidden_row = arena.take<const T*>(chunk_rows);
    o.dx_row = arena.take<T*>(chunk_rows);
  }
}

template <class T>
void Backward<T>::widen(int d, int i, int m) {
  auto part = [&](const void* p, int64_t at, T* to, int64_t count) {
    if (!p || !to) return;
    const Range r = share(count, i, m, 64);
    widen_row(p, at + r.begin, to + r.begin, r.end - r.begin);
  };
  part(a.w[d].ih, 0, w_ih, G * n.H * n.I);
  part(a.w[d].hh, 0, w_hh, G * n.H * n.P);
  part(a.w[d].hr, 0, w_hr, n.P * n.H);
  part(a.h0, d * n.B * n.P, h0, n.B * n.P);
  part(a.c0, d * n.B * n.H, c0, n.B * n.H);
  part(b.dhn, d * n.B * n.P, dhn, n.B * n.P);
}

template <class T>
void Backward<T>::widen_chunk(int d, Range groups, Range part, int64_t s0) {
  each_row(d, groups, part.begin, part.end, [&](int64_t s, int64_t t, int64_t, int64_t r) {
    const int64_t row = rows.row(r), at = (s - s0) * n.B + r, before = d == 0 ? t - 1 : t + 1;
    if (x_chunk) widen_row(a.x, (rows.at(t) + row) * n.I, x_chunk + at * n.I, n.I);
    if (dy_chunk) widen_row(b.dy, y_at(d, t, row), dy_chunk + at * n.P, n.P);
    if (y_chunk) widen_row(a.y, y_at(d, t, row), y_chunk + at * n.P, n.P);
    if (!h_chunk) return;
    T* h = h_chunk + at * n.P;
    if (rows.cut(d, t, row) || (rows.starts(d, t, row) && !a.h0))
      __builtin_memset(h, 0, n.P * sizeof(T));
    else if (rows.starts(d, t, row))
      __builtin_memcpy(h, h0 + row * n.P, n.P * sizeof(T));
    else
      widen_row(a.y, y_at(d, before, row), h, n.P);
  });
}

template <class T>
void Backward<T>::pack(int d, int i, int m) {
  if (n.T > 1 || b.dh0) pack_gate_rows(a.w[d].hh, w_hh, ops.h_gate, n.P, outs, share(outs.count, i, m), packed_hh);
  if (packed_ih) pack_gate_rows(a.w[d].ih, w_ih, ops.x_gate, n.I, inputs, share(inputs.count, i, m), packed_ih);
  if (project) {
    const T* hr = wide(a.w[d].hr, w_hr);
    const Range own = share(units.count, i, m);
    for (int64_t p = own.begin; p < own.end; p++) {
      const Panel q = units.at(p);
      const int64_t j = q.block * L;
      pack_rows<T>([&](int64_t k) { return hr + k * n.H + j; }, n.P, n.H - j, q.blocks, packed_hr + j * n.P);
    }
  }
  if (i == 0)
    for (int64_t j = 0; j < max64(N * n.H, n.P); j++) zeros[j] = T(0);
  const Range r = share(n.B, i, m);
  for (int64_t p = r.begin; p < r.end; p++) {
    const int64_t at = (d * n.B + rows.row(p)) * n.H;
    if (carry_h) __builtin_memset(carry_h + p * n.H, 0, n.H * sizeof(T));
    if (!carry_c) continue;
    if (!b.dcn)
      __builtin_memset(carry_c + p * n.H, 0, n.H * sizeof(T));
    else if (half)
      widen_row(b.dcn, at, carry_c + p * n.H, n.H);
    else
      __builtin_memcpy(carry_c + p * n.H, static_cast<const T*>(b.dcn) + at, n.H * sizeof(T));
  }
  if (d_table) {
    const Range v = share(n.I, i, m);
    const int64_t GH = G * n.H, bytes = (v.end - v.begin) * GH * sizeof(T);
    for (int g = 0; g < (by_group ? split.groups : 1); g++)
      if (T* table = g > 0 ? more[g].table : d_table) __builtin_memset(table + v.begin * GH, 0, bytes);
  }
}

template <class T>
void Backward<T>::pack_gate_rows(const void* w, const T* widened, const int* gate, int64_t columns,
                                 const Panels& panels, Range own, T* dst) const {
  // Of a large matrix a few rows at a time go to all panels, so that it is read in the order in which it lies; a small
  // one goes to one panel after the other, which has less to do for each row (measured: even at 1 to 4 MB with 512 KiB
  // of second-level cache, a tenth of a backward pass of ten steps at H = 800).
  constexpr int64_t kSmall = int64_t(2) << 20, kRowsAtOnce = 8;
  const int64_t bytes = G * n.H * columns * int64_t(sizeof(T)) / elements;
  const int64_t at_once = bytes > kSmall ? kRowsAtOnce : n.H;
  for (int g = 0; g < G; g++)
    for (int64_t k0 = 0; k0 < n.H; k0 += at_once)
      for (int64_t p = own.begin; p < own.end; p++) {
        const Panel q = panels.at(p);
        const int64_t j = q.block * L, count = min64(at_once, n.H - k0), first = (gate[g] * n.H + k0) * columns + j;
        T* to = dst + j * G * gate_cells + (g * gate_cells + k0 / elements) * q.blocks * L;
        if constexpr (sizeof(T) == 4)
          if (elements == 2) {
            const uint16_t* from = static_cast<const uint16_t*>(w) + first;
            pack_row_pairs([&](int64_t k) { return from + k * columns; }, count, columns - j, q.blocks, to);
            continue;
          }
        const T* from = wide(w, widened) + first;
        pack_rows<T>([&](int64_t k) { return from + k * columns; }, count, columns - j, q.blocks, to);
      }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
