// Where a step finds the state before it.
#pragma once
#include "product.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {
namespace {

// Step s of a direction, in the order of the forward pass, is time t.
FUSEDRNN_INLINE int64_t time_of(int d, int64_t s, int64_t T) { return d == 0 ? s : T - 1 - s; }

// One state array of a direction.
template <class T>
struct StateSource {
  const T* initial;  // [B, width] by number in the batch, or null for zeros
  const T* before;   // of the state the previous step left: position r is row order[r], or r if there is no order
  const int32_t* order;
  int64_t ld, width;
  const T* zeros;  // [width]
};

// The state before step t of direction d, for the active rows of group g: `initial` where the row starts, zeros where a
// reset cuts, else `before`. list: room for a pointer per row. all_zero: whether nothing but zeros will be read.
template <class T>
RowView<const T> previous_state(const Schedule& rows, int64_t T_, int d, int64_t t, int g, const StateSource<T>& from,
                                const T** list, bool* all_zero) {
  const int64_t first = rows.begin(g), count = rows.active(g, t);
  const bool cuts = rows.any_cut(d, t);
  const int64_t older = d == 0 ? (t == 0 ? 0 : count) : (t + 1 < T_ ? rows.active(g, t + 1) : 0);
  *all_zero = older == 0 && !from.initial;  // a cut makes zeros too
  if (!cuts && older == 0)
    return {from.initial ? from.initial : from.zeros, from.initial ? from.width : 0, rows.order(), nullptr};
  const RowView<const T> before = {from.before, from.ld, from.order, nullptr};
  if (!cuts && older == count) return before;
  for (int64_t r = first; r < first + count; r++) {
    const int64_t b = rows.row(r);
    if (rows.cut(d, t, b))
      list[r] = from.zeros;
    else if (rows.starts(d, t, b))
      list[r] = from.initial ? from.initial + b * from.width : from.zeros;
    else
      list[r] = before.at(r);
  }
  return {nullptr, 0, nullptr, list};
}

}  // namespace
}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
