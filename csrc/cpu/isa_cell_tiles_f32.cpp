// Every cell's maths over tiles of float.
#include "cell_tiles.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

#define FUSEDRNN_OPS(C) ops_of<cells::C, float>(),
constinit const CellOps<float> cell_ops_f32[] = {FUSEDRNN_CELLS(FUSEDRNN_OPS)};
#undef FUSEDRNN_OPS

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
