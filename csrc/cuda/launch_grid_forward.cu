// Launches of the grid family, forward.
#include "grid_launch.h"

namespace fusedrnn::cuda {

Launch grid_forward(const Plan& plan, const Recurrence& r, const Runtime& rt) {
  const ForwardArgs& a = r.a;
  const int weight = static_cast<int>(size_of(a.dtype));
  const FmaShape s = FmaShape::of(cells::kCells[a.cell].G, a.n.H, plan.variant, plan.tile_batch, false, weight, true);
  return with_cell(a.cell, [&](auto cell) {
    using Cell = decltype(cell);
    static_assert(h_side_in_order<Cell>(), "a block's rows of W_hh stand in the order of the gates");
    return with_storage(a.dtype, [&](auto type) {
      using T = decltype(type);
      return with_rows(s.N, [&](auto rows) {
        return launch_teams("grid forward", grid_forward_kernel<Cell, T, decltype(rows)::value>, plan, a,
                            fma_arguments<T>(s, r), 2 * int64_t(s.N) * s.K, rt);
      });
    });
  });
}

}  // namespace fusedrnn::cuda
