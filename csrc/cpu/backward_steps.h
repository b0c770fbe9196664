// Backward: what one step reads and does.
#pragma once
#include "backward.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

template <class T>
template <class F>
FUSEDRNN_INLINE void Backward<T>::product(Own& o, const RowView<const T>& left, int64_t first, int64_t count, int64_t K,
                                          int part, F&& f) {
  const Range range = share(outs.count, part, split.parts);
  for (int64_t i = range.begin; i < range.end; i++) {
    const Panel q = outs.at(i);
    const int64_t j = q.block * L, width = min64(q.blocks * L, n.P - j);
    multiply_panel(
        tile, left, first, count, packed_hh + j * G * gate_cells, q.blocks, kMaxColumns, K, o.wait, [](int64_t, int) {},
        [&](const T* sums, int64_t r0, int m) __attribute__((always_inline)) {
          for (int64_t r = r0; r < r0 + m; r++, sums += q.blocks * L) f(sums, r, j, width);
        });
  }
}

template <class T>
int64_t Backward<T>::followed(int d, int64_t s, int g) const {
  if (s + 1 == n.T) return 0;
  return min64(rows.active(g, time(d, s)), rows.active(g, time(d, s + 1)));
}

template <class T>
RowView<const T> Backward<T>::following(Own& o, int d, int g, int64_t s, int64_t* K) const {
  const int64_t first = rows.begin(g), count = rows.active(g, time(d, s)), next = followed(d, s, g);
  const int64_t ld = ring_ld();
  *K = next > 0 ? G * gate_cells : 0;
  if (next == 0) return {zeros, 0, nullptr, nullptr};
  const int64_t t = time(d, s + 1);
  const T* from = ring_rows(s + 1) + ops.h_first * gate_cells;
  if (next == count && !rows.any_cut(d, t)) return {from, ld, nullptr, nullptr};
  for (int64_t r = first; r < first + count; r++)
    o.list[0][r] = r < first + next && !rows.cut(d, t, rows.row(r)) ? from + r * ld : zeros;
  return {nullptr, 0, nullptr, o.list[0]};
}

template <class T>
RowView<const T> Backward<T>::carry_in(const T* carry, const T** list, int d, int g, int64_t s) const {
  const int64_t first = rows.begin(g), next = followed(d, s, g);
  if (next == 0 || !rows.any_cut(d, time(d, s + 1))) return {carry, n.H, nullptr, nullptr};
  for (int64_t r = first; r < first + rows.active(g, time(d, s)); r++)
    list[r] = r < first + next && rows.cut(d, time(d, s + 1), rows.row(r)) ? zeros : carry + r * n.H;
  return {nullptr, 0, nullptr, list};
}

template <class T>
RowView<const T> Backward<T>::dy_of(int d, int64_t s, int64_t s0) const {
  if (!b.dy) return {};
  if (half) return {dy_chunk + (s - s0) * n.B * n.P, n.P, nullptr, nullptr};
  return {static_cast<const T*>(b.dy) + y_at(d, time(d, s), 0), n.D * n.P, rows.order(), nullptr};
}

template <class T>
RowView<const T> Backward<T>::dhn_of(Own& o, int d, int g, int64_t s) const {
  const int64_t first = rows.begin(g), count = rows.active(g, time(d, s)), next = followed(d, s, g);
  if (!b.dhn || next == count) return {};
  const T* from = half ? dhn : static_cast<const T*>(b.dhn) + d * n.B * n.P;
  if (next == 0) return {from, n.P, rows.order(), nullptr};
  for (int64_t r = first; r < first + count; r++) o.list[1][r] = r < first + next ? zeros : from + rows.row(r) * n.P;
  return {nullptr, 0, nullptr, o.list[1]};
}

template <class T>
RowView<const T> Backward<T>::h_before(const T** list, int d, int g, int64_t s, int64_t s0, bool as_factor,
                                       bool* all_zero) const {
  const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
  const bool cells = as_factor && elements == 2;
  StateSource<T> h = {nullptr, nullptr, rows.order(), n.D * n.P / (cells ? 2 : 1), n.P / (cells ? 2 : 1), zeros};
  if (cells) {
    if (a.h0) h.initial = as_cells<T>(a.h0, d * n.B * n.P);
    if (s > 0) h.before = as_cells<T>(a.y, y_at(d, before, 0));
  } else {
    if (a.h0) h.initial = half ? h0 : static_cast<const T*>(a.h0) + d * n.B * n.P;
    if (s > 0 && !half) h.before = static_cast<const T*>(a.y) + y_at(d, before, 0);
  }
  const RowView<const T> v = previous_state(rows, n.T, d, t, g, h, list, all_zero);
  if (half && !cells) return {h_chunk + (s - s0) * n.B * n.P, n.P, nullptr, nullptr};
  return v;
}

template <class T>
BackwardStep<T> Backward<T>::step_of(Own& o, int d, int g, int64_t s, int64_t s0) const {
  const int64_t t = time(d, s), before = d == 0 ? t - 1 : t + 1;
  bool zero;
  BackwardStep<T> f = {};
  f.H = n.H;
  const int32_t *order = rows.order(), *saved_order = rows.saved_order();
  if (S > 0) f.saved = {static_cast<const T*>(a.gates) + rows.saved_at(d, t) * S * n.H, S * n.H, saved_order, nullptr};
  if (ops.reads_h) {
    if (project)
      f.h = {hidden_rows(d, t), n.H, saved_order, nullptr};
    else if (half)
      f.h = {y_chunk + (s - s0) * n.B * n.P, n.P, nullptr, nullptr};
    else
      f.h = {static_cast<const T*>(a.y) + y_at(d, t, 0), n.D * n.P, order, nullptr};
  }
  if (ops.reads_h_prev) {
    f.h_prev = h_before(o.list[2], d, g, s, s0, false, &zero);
    f.carry_h_in = carry_in(carry_h, o.list[3], d, g, s);
    f.carry_h_out = {carry_h, n.H, nullptr, nullptr};
  }
  if (ops.has_cell) {
    const T* cells = static_cast<const T*>(a.cells);
    const T* init = !a.c0 ? nullptr : half ? c0 : static_cast<const T*>(a.c0) + d * n.B * n.H;
    f.c = {cells + rows.saved_at(d, t) * n.H, n.H, saved_order, nullptr};
    const T* c = s > 0 ? cells + rows.saved_at(d, before) * n.H : nullptr;
    const StateSource<T> from = {init, c, saved_order, n.H, n.H, zeros};
    f.c_prev = previous_state(rows, n.T, d, t, g, from, o.list[4], &zero);
    f.carry_c_in = carry_in(carry_c, o.list[5], d, g, s);
    f.carry_c_out = {carry_c, n.H, nullptr, nullptr};
  }
  if (!project) {
    f.dy = dy_of(d, s, s0);
    f.dy_more = dhn_of(o, d, g, s);
  }
  f.d = {ring_rows(s), ring_ld(), nullptr, nullptr};
  f.d_is_bf16 = elements == 2;
  return f;
}

template <class T>
void Backward<T>::step(Own& o, int d, int g, int part, int64_t s, int64_t s0) {
  const int64_t first = rows.begin(g), count = rows.active(g, time(d, s));
  if (count == 0) return;
  int64_t K = n.P;
  const BackwardStep<T> f = step_of(o, d, g, s, s0);
  const RowView<const T> left =
      project ? RowView<const T>{dh_rows(s), n.P, nullptr, nullptr} : following(o, d, g, s, &K);
  if (split.parts > 1) prefetch_rows(left, first, count, K);
  const T* weights = project ? packed_hr : packed_hh;
  const int64_t whole_K = project ? n.P : G * gate_cells;
  const Range range = share(units.count, part, split.parts);
  for (int64_t i = range.begin; i < range.end; i++) {
    const Panel q = units.at(s & 1 ? range.begin + range.end - 1 - i : i);
    const int64_t j = q.block * L, width = q.blocks * L * int64_t(sizeof(T));
    multiply_panel(
        project ? tiles<T>() : tile, left, first, count, weights + j * whole_K, q.blocks, kMaxColumns, K, o.wait,
        [&](int64_t r0, int m) __attribute__((always_inline)) {
          for (int64_t r = r0; ahead && r < r0 + m; r++) {
            if (S > 0) prefetch(f.saved.at(r) + j * S, width * S, false);
            if (ops.reads_h) prefetch(f.h.at(r) + j, width, false);
            if (ops.has_cell) prefetch(f.c.at(r) + j, width, false);
            if (ops.has_cell) prefetch(f.c_prev.at(r) + j, width, false);
            if (ops.reads_h_prev) prefetch(f.h_prev.at(r) + j, width, false);
            if (f.dy.base) prefetch(f.dy.at(r) + j, width, false);
            for (int k = 0; k < N; k++) prefetch(f.d.at(r) + k * gate_cells + j / elements, width / elements, true);
          }
        },
        [&](const T* sums, int64_t r0, int m) __attribute__((always_inline)) { ops.backward(f, sums, r0, m, q); });
  }
}

template <class T>
void Backward<T>::output_step(Own& o, int d, int g, int part, int64_t s, int64_t s0) {
  const int64_t first = rows.begin(g), count = rows.active(g, time(d, s));
  if (count == 0) return;
  int64_t K;
  const RowView<const T> left = following(o, d, g, s, &K), dy = dy_of(d, s, s0), more = dhn_of(o, d, g, s);
  T* dh = dh_rows(s);
  product(o, left, first, count, K, part, [&](const T* sums, int64_t r, int64_t j, int64_t width) {
    for (int64_t v = 0; v < width; v++) {
      T x = sums[v];
      if (b.dy) x += dy.at(r)[j + v];
      if (more.base || more.table) x += more.at(r)[j + v];
      dh[r * n.P + j + v] = x;
    }
  });
}

template <class T>
void Backward<T>::finish_step(Own& o, int d, int g, int part, int64_t s) {
  const int64_t t = time(d, s), first = rows.begin(g), end = first + rows.active(g, t);
  const int64_t begin = finishing(d, g, s);
  if (begin == end) return;
  const RowView<const T> left = {ring_rows(s) + ops.h_first * gate_cells, ring_ld(), nullptr, nullptr};
  T* to = half ? dh0 : static_cast<T*>(b.dh0) + d * n.B * n.P;
  product(o, left, begin, end - begin, G * gate_cells, part, [&](const T* sums, int64_t r, int64_t j, int64_t width) {
    const int64_t row = rows.row(r);
    const bool cut = rows.cut(d, t, row);
    for (int64_t v = 0; v < width; v++)
      to[row * n.P + j + v] = cut ? T(0) : sums[v] + (carry_h ? carry_h[r * n.H + j + v] : T(0));
  });
}

template <class T>
int64_t Backward<T>::finishing(int d, int g, int64_t s) const {
  const int64_t t = time(d, s), first = rows.begin(g);
  if (d == 0) return s == 0 ? first : first + rows.active(g, t);
  return first + (t + 1 < n.T ? rows.active(g, t + 1) : 0);
}

template <class T>
bool Backward<T>::any_finishing(int d, int64_t s) const {
  for (int g = 0; g < split.groups; g++)
    if (finishing(d, g, s) < rows.begin(g) + rows.active(g, time(d, s))) return true;
  return false;
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
