// Launches of the block family, forward.
#include "block_launch.h"

namespace fusedrnn::cuda {

Launch block_forward(const Plan& plan, const Recurrence& r, const Runtime& rt) {
  const ForwardArgs& a = r.a;
  const FmaShape s = block_shape(cells::kCells[a.cell].G, plan.tile_units, plan.tile_batch, false);
  return with_cell(a.cell, [&](auto cell) {
    using Cell = decltype(cell);
    static_assert(h_side_in_order<Cell>(), "the rows of W_hh stand in the order of the gates");
    return with_block(plan, [&](auto units, auto rows) {
      constexpr int kUnits = decltype(units)::value, kRows = decltype(rows)::value;
      if constexpr (!BlockSplit::holds(Cell::G, kUnits, kRows))
        return Launch::refused;
      else
        return launch_block("block forward", block_forward_kernel<Cell, kUnits, kRows>, plan, a.n.D, rt.stream,
                            fma_arguments<float>(s, r));
    });
  });
}

}  // namespace fusedrnn::cuda
