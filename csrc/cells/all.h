// The list of cells. To add one: its header, its include, one line in FUSEDRNN_CELLS. Everything
// else iterates; the position in the list is the cell's index (layer.h).
#pragma once
#include "elman.h"
#include "gru.h"
#include "lstm.h"

#define FUSEDRNN_CELLS(X) \
  X(ElmanTanh)            \
  X(ElmanRelu)            \
  X(Lstm)                 \
  X(Gru)

namespace fusedrnn::cells {

// The constants of a cell as data, for code that is not compiled per cell.
struct CellInfo {
  const char* name;
  int G, S, N;
  bool has_cell, reads_h_prev;
};

#define FUSEDRNN_CELL_INFO(C) {C::name, C::G, C::S, C::N, C::has_cell, C::reads_h_prev},
constexpr CellInfo kCells[] = {FUSEDRNN_CELLS(FUSEDRNN_CELL_INFO)};
#undef FUSEDRNN_CELL_INFO
constexpr int kCellCount = sizeof(kCells) / sizeof(kCells[0]);

}  // namespace fusedrnn::cells
