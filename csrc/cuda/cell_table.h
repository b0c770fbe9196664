// The list of cells as the CUDA code uses it: a call with the cell as a type, and the order of its gradients as data.
#pragma once
#include <stdexcept>
#include <string>

#include "../cells/all.h"

namespace fusedrnn::cuda {

// Calls f(Cell{}) with the cell of the given index.
template <class F>
decltype(auto) with_cell(int cell, F&& f) {
  int i = 0;
#define FUSEDRNN_CASE(C) \
  if (cell == i++) return f(cells::C{});
  FUSEDRNN_CELLS(FUSEDRNN_CASE)
#undef FUSEDRNN_CASE
  throw std::runtime_error("fusedrnn: expected a cell index below " + std::to_string(cells::kCellCount) + ", got " +
                           std::to_string(cell));
}

// G gradients that lie side by side among a cell's N, and the gates (row blocks of the weights) they belong to.
struct Run {
  int first, gate[4];
  bool in_order(int G) const {
    for (int i = 0; i < G; i++)
      if (gate[i] != i) return false;
    return true;
  }
};
inline Run x_run(int cell) {
  return with_cell(cell, [](auto c) {
    Run r{c.x_first, {}};
    for (int i = 0; i < c.G; i++) r.gate[i] = c.x_gate(i);
    return r;
  });
}
inline Run h_run(int cell) {
  return with_cell(cell, [](auto c) {
    Run r{c.h_first, {}};
    for (int i = 0; i < c.G; i++) r.gate[i] = c.h_gate(i);
    return r;
  });
}

}  // namespace fusedrnn::cuda
