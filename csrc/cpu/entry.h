// Entry points of one instruction set.
#pragma once
#include "backend.h"
#include "isa_namespace.h"

namespace fusedrnn::cpu::FUSEDRNN_ISA {

void forward(const ForwardArgs& a, const Threads& threads);
void backward(const BackwardArgs& a, const Threads& threads);
bool step(const ForwardArgs& a, const Threads& threads);

}  // namespace fusedrnn::cpu::FUSEDRNN_ISA
