// Entry points of one instruction set.
//
// Where things are: tile.h (multiply-adds in registers; isa_tile*.cpp), pack.h (orders the tile reads), product.h
// (panels and loops over tiles), step.h and cell_tiles.h (the cells' maths over tiles; isa_cell_tiles_*.cpp), states.h
// (initial states, resets), forward*.h, backward*.h, weight_grad.h (the two passes), isa_step.cpp (a single step;
// rows.h, row_tiles.h), isa_generate.cpp, isa_draw.cpp (generation), isa_cross_entropy.cpp (the loss of a linear head),
// convert.h (half types), simd.h (vectors). Built once and for all: isa.cpp (the choice), team.cpp (threads; alone.h,
// spared.h, idle.cpp), schedule.cpp (rows, lengths, how work is cut), scratch.cpp (memory).
#pragma once
#include "backend.h"
#include "generate.h"
#include "isa_namespace.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

void forward(const ForwardArgs& a, const Threads& threads);
size_t forward_bytes(const ForwardArgs& a, const Threads& threads);
void forward_again(const ForwardArgs& a, const Threads& threads, char* block, bool packed);
void backward(const BackwardArgs& a, const Threads& threads);
bool step(const ForwardArgs& a, const Threads& threads);
bool generate_rows(const GenerateArgs& a, const Threads& threads);
void head(const Head& a, const double* h, int64_t h_ld, int64_t begin, int64_t end, double* to, int64_t ld);
int64_t draw(const Draw& d, double* logprob);
double cross_entropy(const CrossEntropyArgs& a, const Threads& threads);

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
