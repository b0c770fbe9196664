// What the launches of the fma family share.
#pragma once
#include "cell_table.h"
#include "family.h"
#include "fma_unit.h"

namespace fusedrnn::cuda {

template <class Cell>
constexpr bool h_side_in_order() {
  for (int i = 0; i < Cell::G; i++)
    if (Cell::h_gate(i) != i) return false;
  return true;
}

template <class T>
FmaForward<T> fma_arguments(const FmaShape& s, const Recurrence& r) {
  const ForwardArgs& a = r.a;
  FmaForward<T> f{};
  f.s = s;
  f.rows = Rows::of(a);
  f.H = a.n.H;
  f.D = static_cast<int>(a.n.D);
  for (int d = 0; d < a.n.D; d++) {
    f.w[d] = static_cast<const T*>(a.w[d].hh);
    f.b_ih[d] = static_cast<const T*>(a.w[d].b_ih);
    f.b_hh[d] = static_cast<const T*>(a.w[d].b_hh);
  }
  f.gx = static_cast<const T*>(r.gx);
  f.gx_ld = r.gx_ld;
  f.h0 = static_cast<const T*>(a.h0);
  f.c0 = static_cast<const T*>(a.c0);
  f.y = static_cast<T*>(a.y);
  f.h_n = static_cast<T*>(a.h_n);
  f.c_n = static_cast<T*>(a.c_n);
  f.gates = static_cast<T*>(a.gates);
  f.cells = static_cast<float*>(a.cells);
  return f;
}

template <class T>
FmaBackward<T> fma_arguments(const FmaShape& s, const RecurrenceGrad& r) {
  const BackwardArgs& b = r.b;
  const ForwardArgs& a = b.f;
  FmaBackward<T> f{};
  f.s = s;
  f.rows = Rows::of(a);
  f.H = a.n.H;
  f.D = static_cast<int>(a.n.D);
  for (int d = 0; d < a.n.D; d++) f.w[d] = static_cast<const T*>(a.w[d].hh);
  f.gates = static_cast<const T*>(a.gates);
  f.cells = static_cast<const float*>(a.cells);
  f.y = static_cast<const T*>(a.y);
  f.h0 = static_cast<const T*>(a.h0);
  f.c0 = static_cast<const T*>(a.c0);
  f.dy = static_cast<const T*>(b.dy);
  f.dhn = static_cast<const T*>(b.dhn);
  f.dcn = static_cast<const T*>(b.dcn);
  f.dgates = static_cast<T*>(r.dgates);
  f.dh0 = static_cast<T*>(b.dh0);
  f.dc0 = static_cast<T*>(b.dc0);
  return f;
}

}  // namespace fusedrnn::cuda
