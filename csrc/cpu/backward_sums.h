// Backward: dx, dW and the bias gradients of a chunk.
#pragma once
#include "backward.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
int64_t Backward<T>::list_rows(Own& o, int d, int64_t s0, int64_t s1, int64_t* skip) {
  int64_t k = 0;
  *skip = 0;
  for (int64_t s = s0; s < s1; s++)
    for (int g = 0; g < split.groups; g++) {
      const int64_t t = time(d, s), first = rows.begin(g), end = first + rows.active(g, t);
      if (first == end) continue;
      bool zero;
      const RowView<const T> h = h_before(o.list[2], d, g, s, s0, true, &zero);
      const T *x = static_cast<const T*>(a.x), *hidden = project ? hidden_rows(d, t) : nullptr;
      if (zero && *skip == k) *skip = k + end - first;
      for (int64_t r = first; r < end; r++, k++) {
        const int64_t row = rows.row(r), at = (s - s0) * n.B + r;
        o.d_row[k] = ring_rows(s) + r * ring_ld();
        o.h_row[k] = h.at(r);
        if (a.x)
          o.x_row[k] = elements == 2 ? as_cells<T>(a.x, (t * n.B + row) * n.I)
                       : half        ? x_chunk + at * n.I
                                     : x + (t * n.B + row) * n.I;
        if (b.dx) o.dx_row[k] = half ? dx_chunk + k * n.I : static_cast<T*>(b.dx) + (t * n.B + row) * n.I;
        if (project) {
          o.dh_row[k] = dh_rows(s) + r * n.P;
          o.hidden_row[k] = hidden + row * n.H;
        }
      }
    }
  *skip = *skip / elements * elements;
  return k;
}

template <class T>
void Backward<T>::input_grad(Own& o, int d, int64_t s0, int64_t count, int64_t i, int64_t m) {
  const Range r = share(count, i, m, kMaxRows);
  const int64_t K = G * gate_cells, runs = ceil_div(K, kLongestRun);
  for (int64_t p = 0; p < inputs.count && r.begin < r.end; p++) {
    const Panel q = inputs.at(p);
    const int64_t j = q.block * L, width = min64(q.blocks * L, n.I - j);
    for (int64_t c = 0; c < runs; c++) {
      const int64_t k = K * c / runs, length = K * (c + 1) / runs - k;
      rows_times_panel(tile, o.d_row + r.begin, ops.x_first * gate_cells + k, o.dx_row + r.begin, j, r.end - r.begin,
                       packed_ih + j * K + k * q.blocks * L, q.blocks, length, width, static_cast<const T*>(nullptr),
                       c > 0 || (d > 0 && !half), o.wait);
    }
  }
  if (half) narrow_dx(o, d, s0, r);
}

template <class T>
void Backward<T>::narrow_dx(Own& o, int d, int64_t s0, Range r) {
  if constexpr (sizeof(T) == 4) {
    int64_t k = 0;
    for (int64_t s = s0; k < r.end; s++)
      for (int g = 0; g < split.groups; g++) {
        const int64_t t = time(d, s), first = rows.begin(g);
        for (int64_t q = first; q < first + rows.active(g, t); q++, k++) {
          if (k < r.begin || k >= r.end) continue;
          void* to = element(b.dx, (t * n.B + rows.row(q)) * n.I, a.dtype);
          d == 0 ? from_float(a.dtype, o.dx_row[k], to, n.I) : add_from_float(a.dtype, o.dx_row[k], to, n.I);
        }
      }
  }
}

template <class T>
void Backward<T>::weight_grads(Own& o, int d, int cell, int64_t s0, int64_t s1, int64_t K, int64_t skip, bool add) {
  const WeightGrads& w = b.dw[d];
  const Range r = share(n.H, cell, split.threads(), kPanelRows);
  const int64_t count = r.end - r.begin;
  const PackedGradients<T> packed = {o.packed, ceil_div(K, elements), count};
  if (count > 0 && (w.ih || w.hh || w.b_ih || w.b_hh)) {
    for (int slot = 0; slot < N; slot++) {
      pack_slot(o, slot, r, K, packed.slot(slot));
      const int x = slot - ops.x_first, h = slot - ops.h_first;
      if (w.b_ih && x >= 0 && x < G) put_sums(o.sum, grad(w.b_ih, db_ih) + ops.x_gate[x] * n.H + r.begin, count, add);
      if (w.b_hh && h >= 0 && h < G) put_sums(o.sum, grad(w.b_hh, db_hh) + ops.h_gate[h] * n.H + r.begin, count, add);
    }
    if (w.ih && a.ids)
      scatter(o, d, s0, s1, r);
    else if (w.ih)
      add_weight_grad(tile, packed, ops.x_first, G, ops.x_gate, n.H, r.begin,
                      RightFactor<T>{o.x_row, K, 0, n.I, elements}, grad(w.ih, dw_ih), add, o.spare);
    if (w.hh)
      add_weight_grad(tile, packed, ops.h_first, G, ops.h_gate, n.H, r.begin,
                      RightFactor<T>{o.h_row, K, skip, n.P, elements}, grad(w.hh, dw_hh), add, o.spare);
  }
  const Range q = share(n.P, cell, split.threads(), kPanelRows);
  if (!project || !w.hr || q.begin == q.end) return;
  const PackedGradients<T> dh = {o.packed, K, q.end - q.begin};
  pack_panels<T>([&](int64_t k) __attribute__((always_inline)) { return o.dh_row[k] + q.begin; }, K, dh.units,
                 dh.slot(0), static_cast<T*>(nullptr));
  const int gate[1] = {0};
  add_weight_grad(tiles<T>(), dh, 0, 1, gate, n.P, q.begin, RightFactor<T>{o.hidden_row, K, 0, n.H, 1},
                  grad(w.hr, dw_hr), add, o.spare);
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
void Backward<T>::scatter(Own& o, int d, int64_t s0, int64_t s1, Range units_) {
  int64_t k = 0;
  for (int64_t s = s0; s < s1; s++)
    for (int g = 0; g < split.groups; g++) {
      const int64_t t = time(d, s), first = rows.begin(g);
      for (int64_t r = first; r < first + rows.active(g, t); r++, k++) {
        T* to = d_table + a.ids[t * n.B + rows.row(r)] * G * n.H;
        for (int i = 0; i < G; i++) {
          add_row(o.d_row[k], (ops.x_first + i) * n.H + units_.begin, to + ops.x_gate[i] * n.H + units_.begin,
                  units_.end - units_.begin);
        }
      }
    }
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
