// Forward: scratch, the float forms of half types, packed weights, input projections.
#pragma once
#include "forward.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
void Forward<T>::take_scratch(Arena& arena, int64_t group) {
  const int64_t GH = G * n.H, chunk_rows = chunk_steps * n.B;
  w_ih = half && (elements == 1 || a.ids) ? arena.take<T>(GH * n.I) : nullptr;
  w_hh = half && elements == 1 ? arena.take<T>(GH * n.P) : nullptr;
  w_hr = half && project ? arena.take<T>(n.P * n.H) : nullptr;
  b_ih = half ? arena.take<T>(GH) : nullptr;
  b_hh = half ? arena.take<T>(GH) : nullptr;
  h0 = half && a.h0 ? arena.take<T>(n.B * n.P) : nullptr;
  c0 = half && a.c0 ? arena.take<T>(n.B * n.H) : nullptr;
  x_chunk = half && a.x && elements == 1 ? arena.take<T>(chunk_rows * n.I) : nullptr;
  packed_ih = a.ids ? nullptr : arena.take<T>(KI * x_width);
  packed_hh = arena.take<T>(KP * x_width);
  packed_hr = project ? arena.take<T>(n.H * out_blocks * L) : nullptr;
  x_bias = arena.take<T>(x_width);
  h_bias = arena.take<T>(x_width);
  x_part = by_table ? nullptr : arena.take<T>(chunk_rows * x_width);
  table = by_table ? arena.take<T>(n.I * x_width) : nullptr;
  zeros = arena.take<T>(max64(n.H, n.P) + L);
  c_state = ops.has_cell && !a.cells ? arena.take<T>(n.B * n.H) : nullptr;
  hidden_state = project && !a.hidden ? arena.take<T>(n.B * n.H) : nullptr;
  h_ring = half ? arena.take<T>(2 * n.B * n.P) : nullptr;
  for (int i = 0; i < split.threads(); i++) {
    Own& o = own[i];
    o.wait = arena.take<T>(max64(group, kMaxRows) * kPanelVectors * L);
    o.h_prev = arena.take<const T*>(n.B);
    o.left = arena.take<const T*>(n.B);
    o.c_prev = arena.take<const T*>(n.B);
    o.x_row = arena.take<const T*>(n.B);
    o.a_list = arena.take<const T*>(chunk_steps * group);
    o.c_list = arena.take<T*>(chunk_steps * group);
  }
}

template <class T>
void Forward<T>::widen(int d, int i, int m) {
  const Weights& w = a.w[d];
  auto part = [&](const void* from, T* to, int64_t count) {
    if (!from || !to) return;
    const Range r = share(count, i, m, 64);
    if constexpr (sizeof(T) == 4) to_float(a.dtype, element(from, r.begin, a.dtype), to + r.begin, r.end - r.begin);
  };
  part(w.ih, w_ih, G * n.H * n.I);
  part(w.hh, w_hh, G * n.H * n.P);
  part(w.hr, w_hr, n.P * n.H);
  part(w.b_ih, b_ih, G * n.H);
  part(w.b_hh, b_hh, G * n.H);
  if (a.h0) part(element(a.h0, d * n.B * n.P, a.dtype), h0, n.B * n.P);
  if (a.c0) part(element(a.c0, d * n.B * n.H, a.dtype), c0, n.B * n.H);
}

template <class T>
void Forward<T>::pack_biases(int d) {
  const Weights& w = a.w[d];
  const T *bi = w.b_ih ? wide(w.b_ih, b_ih) : nullptr, *bh = w.b_hh ? wide(w.b_hh, b_hh) : nullptr;
  for (int64_t j = 0; j < unit_blocks * L; j++)
    for (int g = 0; g < G; g++) {
      const int64_t to = (j / L * G + g) * L + j % L, from = g * n.H + j;
      const T x = bi && j < n.H ? bi[from] : T(0), h = bh && j < n.H ? bh[from] : T(0);
      x_bias[to] = ops.h_bias_apart[g] ? x : x + h;
      h_bias[to] = ops.h_bias_apart[g] ? h : T(0);
    }
}

template <class T>
void Forward<T>::pack(int d, int i, int m) {
  const Weights& w = a.w[d];
  const T *ih = factor(w.ih, w_ih), *hh = factor(w.hh, w_hh);
  const Range r = share(panels.count, i, m);
  for (int64_t p = r.begin; p < r.end; p++) {
    const Panel q = panels.at(p);
    if (n.T > 1 || a.h0) pack_gates(hh, G, n.H, KP, q, layout.columns, packed_hh + q.block * G * L * KP);
    if (packed_ih) pack_gates(ih, G, n.H, KI, q, layout.columns, packed_ih + q.block * G * L * KI);
  }
  if (project) {
    const Range o = share(out_panels.count, i, m);
    for (int64_t p = o.begin; p < o.end; p++) {
      const Panel q = out_panels.at(p);
      pack_gates(wide(w.hr, w_hr), 1, n.P, n.H, q, kMaxColumns, packed_hr + q.block * L * n.H);
    }
  }
  if (i == 0) {
    pack_biases(d);
    for (int64_t j = 0; j < max64(n.H, n.P); j++) zeros[j] = T(0);
  }
}

template <class T>
void Forward<T>::fill_table(int d, int i, int m) {
  const T* ih = wide(a.w[d].ih, w_ih);
  const Range r = share(unit_blocks, i, m);
  for (int64_t b = r.begin; b < r.end; b++)
    for (int g = 0; g < G; g++) {
      T* to = table + (b * G + g) * L;
      pack_transposed(ih + (g * n.H + b * L) * n.I, n.I, n.I, min64(L, n.H - b * L), to, x_width);
      const Vec<T> bias = load(x_bias + (b * G + g) * L);
      for (int64_t v = 0; v < n.I; v++) store(to + v * x_width, load(to + v * x_width) + bias);
    }
}

template <class T>
void Forward<T>::widen_x(int d, int g, Range part, int64_t s0) {
  for (int64_t s = part.begin; s < part.end; s++) {
    const int64_t t = time(d, s), first = rows.begin(g);
    for (int64_t r = first; r < first + rows.active(g, t); r++)
      if constexpr (sizeof(T) == 4)
        to_float(a.dtype, element(a.x, (rows.at(t) + rows.row(r)) * n.I, a.dtype), x_chunk + ((s - s0) * n.B + r) * n.I,
                 n.I);
  }
}

template <class T>
void Forward<T>::project_input(Own& o, int d, int g, Range units, int64_t s0, int64_t s1) {
  if (by_table) return;
  int64_t count = 0;
  for (int64_t s = s0; s < s1; s++) {
    const int64_t t = time(d, s), first = rows.begin(g), end = first + rows.active(g, t);
    const T* x = static_cast<const T*>(a.x);
    for (int64_t r = first; r < end; r++, count++) {
      o.c_list[count] = x_part + ((s - s0) * n.B + r) * x_width;
      if (a.ids)
        gather_column(d, a.ids[rows.at(t) + rows.row(r)], units, o.c_list[count]);
      else
        o.a_list[count] = elements == 2 ? as_cells<T>(a.x, (rows.at(t) + rows.row(r)) * n.I)
                          : half        ? x_chunk + ((s - s0) * n.B + r) * n.I
                                        : x + (rows.at(t) + rows.row(r)) * n.I;
    }
  }
  if (a.ids) return;
  const int64_t runs = ceil_div(KI, kLongestRun);
  for (int64_t p = units.begin; p < units.end; p++) {
    const Panel q = panels.at(p);
    each_strip(q.blocks * G, layout.columns, [&](int v, int vectors) {
      const int64_t width = vectors * L, column = (q.block * G + v) * L;
      for (int64_t i = 0; i < runs; i++) {
        const int64_t k = KI * i / runs, length = KI * (i + 1) / runs - k;
        rows_times_panel(tile, o.a_list, k, o.c_list, column, count, packed_ih + column * KI + k * width, vectors,
                         length, width, i == 0 ? x_bias + column : nullptr, i > 0, o.wait);
      }
    });
  }
}

template <class T>
void Forward<T>::gather_column(int d, int64_t id, Range units, T* to) {
  const T* ih = wide(a.w[d].ih, w_ih);
  const int64_t b0 = panels.at(units.begin).block, last = units.end - 1;
  const int64_t b1 = panels.at(last).block + panels.at(last).blocks;
  for (int64_t b = b0; b < b1; b++)
    for (int g = 0; g < G; g++)
      for (int64_t j = b * L; j < min64(n.H, b * L + L); j++) {
        const int64_t at = (b * G + g) * L + j % L;
        to[at] = ih[(g * n.H + j) * n.I + id] + x_bias[at];
      }
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
