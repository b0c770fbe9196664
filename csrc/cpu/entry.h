// Entry points of one instruction set.
//
// Where things are: tile.h (multiply-adds in registers; isa_tile*.cpp), pack.h (orders the tile reads), product.h
// (panels and loops over tiles), step.h and cell_tiles.h (the cells' maths over tiles; isa_cell_tiles_*.cpp), states.h
// (initial states, resets), forward*.h, backward*.h, weight_grad.h (the two passes), isa_step.cpp (a single step),
// convert.h (half types), simd.h (vectors). Built once and for all: isa.cpp (the choice), team.cpp (threads),
// schedule.cpp (rows, lengths, how work is cut), scratch.cpp (memory).
#pragma once
#include "backend.h"
#include "isa_namespace.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

void forward(const ForwardArgs& a, const Threads& threads);
void backward(const BackwardArgs& a, const Threads& threads);
bool step(const ForwardArgs& a, const Threads& threads);

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
