// Errors of the CUDA runtime as exceptions.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace fusedrnn::cuda {

// Throws what failed, and clears it: left there, the next launch would report it as its own.
inline void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  (void)cudaGetLastError();
  throw std::runtime_error(std::string("fusedrnn: ") + what + ": " + cudaGetErrorString(e));
}

}  // namespace fusedrnn::cuda
