// Backward: dx, dW and the bias gradients of a chunk.
#pragma once
#include "backward.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
template <class F>
FUSEDRNN_INLINE void Backward<T>::each_row(int d, Range groups, int64_t s0, int64_t s1, F&& f) const {
  for (int64_t s = s0; s < s1; s++)
    for (int64_t g = groups.begin; g < groups.end; g++) {
      const int64_t t = time(d, s), first = rows.begin(int(g)), end = first + rows.active(int(g), t);
      for (int64_t r = first; r < end; r++) f(s, t, g, r);
    }
}

template <class T>
void Backward<T>::list_rows(Own& o, int d, Chunk& c) {
  // Half types: the chunk's rows of dx lie where no other group's do.
  T* dx = half && b.dx ? dx_chunk + rows.begin(int(c.groups.begin)) * chunk_steps * n.I : nullptr;
  int64_t k = 0;
  c.skip = 0;
  for (int64_t s = c.s0; s < c.s1; s++)
    for (int64_t g = c.groups.begin; g < c.groups.end; g++) {
      const int64_t t = time(d, s), first = rows.begin(int(g)), end = first + rows.active(int(g), t);
      if (first == end) continue;
      bool zero;
      const RowView<const T> h = h_before(o.list[2], d, int(g), s, c.s0, true, &zero);
      const T* x = static_cast<const T*>(a.x);
      const RowView<const T> hidden = {project ? hidden_rows(d, t) : nullptr, n.H, rows.saved_order(), nullptr};
      if (zero && c.skip == k) c.skip = k + end - first;
      for (int64_t r = first; r < end; r++, k++) {
        const int64_t row = rows.row(r), at = (s - c.s0) * n.B + r;
        o.d_row[k] = ring_rows(s) + r * ring_ld();
        o.h_row[k] = h.at(r);
        if (a.x)
          o.x_row[k] = elements == 2 ? as_cells<T>(a.x, (rows.at(t) + row) * n.I)
                       : half        ? x_chunk + at * n.I
                                     : x + (rows.at(t) + row) * n.I;
        if (b.dx) o.dx_row[k] = half ? dx + k * n.I : static_cast<T*>(b.dx) + (rows.at(t) + row) * n.I;
        if (project) {
          o.dh_row[k] = dh_rows(s) + r * n.P;
          o.hidden_row[k] = hidden.at(r);
        }
      }
    }
  c.skip = c.skip / elements * elements;
  c.K = k;
}

template <class T>
void Backward<T>::input_grad(Own& o, int d, const Chunk& c, int64_t i, int64_t m) {
  const Range r = share(c.K, i, m, kMaxRows);
  const int64_t K = G * gate_cells, runs = ceil_div(K, kLongestRun);
  for (int64_t p = 0; p < inputs.count && r.begin < r.end; p++) {
    const Panel q = inputs.at(p);
    const int64_t j = q.block * L, width = min64(q.blocks * L, n.I - j);
    for (int64_t u = 0; u < runs; u++) {
      const int64_t k = K * u / runs, length = K * (u + 1) / runs - k;
      rows_times_panel(tile, o.d_row + r.begin, ops.x_first * gate_cells + k, o.dx_row + r.begin, j, r.end - r.begin,
                       packed_ih + j * K + k * q.blocks * L, q.blocks, length, width, static_cast<const T*>(nullptr),
                       u > 0 || (d > 0 && !half), o.wait);
    }
  }
  if (half) narrow_dx(o, d, c, r);
}

template <class T>
void Backward<T>::narrow_dx(Own& o, int d, const Chunk& c, Range r) {
  if constexpr (sizeof(T) == 4) {
    int64_t k = 0;
    each_row(d, c.groups, c.s0, c.s1, [&](int64_t, int64_t t, int64_t, int64_t q) {
      if (k >= r.begin && k < r.end) {
        void* to = element(b.dx, (rows.at(t) + rows.row(q)) * n.I, a.dtype);
        d == 0 ? from_float(a.dtype, o.dx_row[k], to, n.I) : add_from_float(a.dtype, o.dx_row[k], to, n.I);
      }
      k++;
    });
  }
}

template <class T>
Sums<T> Backward<T>::sums_of(int d, int64_t g) const {
  const WeightGrads& w = b.dw[d];
  const bool own = by_group && g > 0;
  auto to = [&](void* wanted, T* widened, T* groups) -> T* {
    return !wanted ? nullptr : own ? groups : grad(wanted, widened);
  };
  const Sums<T>& s = more[g];
  T* const table = !a.ids || !w.ih ? nullptr : own ? s.table : d_table;
  return {to(w.ih, dw_ih, s.ih),     to(w.hh, dw_hh, s.hh), to(w.b_ih, db_ih, s.b_ih),
          to(w.b_hh, db_hh, s.b_hh), to(w.hr, dw_hr, s.hr), table};
}

template <class T>
void Backward<T>::weight_grads(Own& o, int d, const Chunk& c, int64_t i, int64_t m) {
  const Sums<T> w = sums_of(d, c.groups.begin);
  const Range r = share(n.H, i, m, kPanelRows);
  const int64_t count = r.end - r.begin;
  const PackedGradients<T> packed = {o.packed, ceil_div(c.K, elements), count};
  if (count > 0 && (w.ih || w.hh || w.b_ih || w.b_hh || w.table)) {
    for (int slot = 0; slot < N; slot++) {
      pack_slot(o, slot, r, c.K, packed.slot(slot));
      const int x = slot - ops.x_first, h = slot - ops.h_first;
      if (w.b_ih && x >= 0 && x < G) put_sums(o.sum, w.b_ih + ops.x_gate[x] * n.H + r.begin, count, c.add);
      if (w.b_hh && h >= 0 && h < G) put_sums(o.sum, w.b_hh + ops.h_gate[h] * n.H + r.begin, count, c.add);
    }
    if (w.table)
      scatter(o, d, c, r, w.table);
    else if (w.ih)
      add_weight_grad(tile, packed, ops.x_first, G, ops.x_gate, n.H, r.begin,
                      RightFactor<T>{o.x_row, c.K, 0, n.I, elements}, w.ih, c.add, o.spare);
    if (w.hh)
      add_weight_grad(tile, packed, ops.h_first, G, ops.h_gate, n.H, r.begin,
                      RightFactor<T>{o.h_row, c.K, c.skip, n.P, elements}, w.hh, c.add, o.spare);
  }
  const Range q = share(n.P, i, m, kPanelRows);
  if (!project || !w.hr || q.begin == q.end) return;
  const PackedGradients<T> dh = {o.packed, c.K, q.end - q.begin};
  pack_panels<T>([&](int64_t k) __attribute__((always_inline)) { return o.dh_row[k] + q.begin; }, c.K, dh.units,
                 dh.slot(0), static_cast<T*>(nullptr));
  const int gate[1] = {0};
  add_weight_grad(tiles<T>(), dh, 0, 1, gate, n.P, q.begin, RightFactor<T>{o.hidden_row, c.K, 0, n.H, 1}, w.hr, c.add,
                  o.spare);
}

template <class T>
void Backward<T>::pack_slot(Own& o, int slot, Range r, int64_t K, T* to) {
  const int64_t count = r.end - r.begin, at = slot * n.H + r.begin;
  if constexpr (sizeof(T) == 4)
    if (elements == 2) {
      pack_panel_pairs([&](int64_t k) __attribute__((always_inline)) { return as_bf16(o.d_row[k]) + at; }, K, count, to,
                       o.sum);
      return;
    }
  pack_panels<T>([&](int64_t k) __attribute__((always_inline)) { return o.d_row[k] + at; }, K, count, to, o.sum);
}

template <class T>
void Backward<T>::scatter(Own& o, int d, const Chunk& c, Range units_, T* table) {
  int64_t k = 0;
  each_row(d, c.groups, c.s0, c.s1, [&](int64_t, int64_t t, int64_t, int64_t r) {
    T* to = table + a.ids[rows.at(t) + rows.row(r)] * G * n.H;
    for (int i = 0; i < G; i++)
      add_row(o.d_row[k], (ops.x_first + i) * n.H + units_.begin, to + ops.x_gate[i] * n.H + units_.begin,
              units_.end - units_.begin);
    k++;
  });
}

template <class T>
void Backward<T>::add_row(const T* row, int64_t at, T* to, int64_t count) const {
  if constexpr (sizeof(T) == 4)
    if (elements == 2) {
      for (int64_t j = 0; j < count; j += L) {
        const int64_t width = min64(L, count - j);
        const VecF sum = load_or_part(to + j, width) + bf16_value(widen_bits(as_bf16(row) + at + j, width));
        width == L ? store(to + j, sum) : store_part(to + j, sum, width);
      }
      return;
    }
  for (int64_t j = 0; j < count; j++) to[j] += row[at + j];
}

template <class T>
void Backward<T>::add_groups(int d, int i, int m) {
  const Sums<T> first = sums_of(d, 0);
  for (int g = 1; g < split.groups; g++) {
    const Sums<T> s = sums_of(d, g);
    auto add = [&](T* to, const T* from, int64_t count) {
      if (!to || !from) return;
      const Range r = share(count, i, m, L);
      for (int64_t j = r.begin; j < r.end; j++) to[j] += from[j];
    };
    const int64_t GH = G * n.H;
    add(first.ih, s.ih, GH * n.I);
    add(first.hh, s.hh, GH * n.P);
    add(first.b_ih, s.b_ih, GH);
    add(first.b_hh, s.b_hh, GH);
    add(first.hr, s.hr, n.P * n.H);
    add(first.table, s.table, n.I * GH);
  }
}

template <class T>
void Backward<T>::transpose_table(int d, int i, int m) {
  T* to = grad(b.dw[d].ih, dw_ih);
  const int64_t GH = G * n.H, whole = n.I / L * L;
  const Range r = share(GH, i, m, L);
  for (int64_t v = 0; v < whole; v += L)
    pack_transposed(d_table + v * GH + r.begin, GH, r.end - r.begin, int64_t(L), to + r.begin * n.I + v, n.I);
  for (int64_t j = r.begin; j < r.end; j++)
    for (int64_t v = whole; v < n.I; v++) to[j * n.I + v] = d_table[v * GH + j];
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
