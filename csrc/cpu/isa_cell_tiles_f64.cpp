// Every cell's maths over tiles of double.
#include "cell_tiles.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

#define FUSEDRNN_OPS(C) ops_of<cells::C, double>(),
constinit const CellOps<double> cell_ops_f64[] = {FUSEDRNN_CELLS(FUSEDRNN_OPS)};
#undef FUSEDRNN_OPS

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
