// Launches of the grid family, backward.
#include "grid_launch.h"

namespace fusedrnn::cuda {

Launch grid_backward(const Plan& plan, const RecurrenceGrad& r, const Runtime& rt) {
  const ForwardArgs& a = r.b.f;
  const int weight = static_cast<int>(size_of(a.dtype));
  const FmaShape s = FmaShape::of(cells::kCells[a.cell].G, a.n.H, plan.variant, plan.tile_batch, true, weight, true);
  return with_cell(a.cell, [&](auto cell) {
    using Cell = decltype(cell);
    static_assert(h_side_in_order<Cell>(), "a block's rows of W_hh stand in the order of the gates");
    return with_storage(a.dtype, [&](auto type) {
      using T = decltype(type);
      return with_rows(s.N, [&](auto rows) {
        return launch_teams("grid backward", grid_backward_kernel<Cell, T, decltype(rows)::value>, plan, a,
                            fma_arguments<T>(s, r), 2 * int64_t(s.R) * s.R * s.items, rt);
      });
    });
  });
}

}  // namespace fusedrnn::cuda
