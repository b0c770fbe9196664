// What the CUDA ops take from the torch that is running: its current stream, its cuBLAS handle and its allocator.
// Torch's CUDA libraries are found at run time, so that this library builds and links against a torch without CUDA.
#pragma once
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "../cuda/family.h"

namespace fusedrnn::torch_ops {

// The current stream of torch on the device.
cudaStream_t current_stream(int32_t device_index);

// Facts of the device, read once. Throws std::runtime_error below compute capability 8.0.
const cuda::Device& device_facts(int32_t device_index);

// Products through torch's cuBLAS handle of this thread, device and stream. While one lives, the handle's math mode is
// set so that TF32 is used where a product asks for it and nowhere else.
class Blas {
 public:
  Blas();
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;
  void run(const cuda::Product& p, bool tf32) const;

 private:
  void* handle_ = nullptr;
  int mode_before_ = 0;
};

// Everything a layer call needs, for as long as it enqueues work. Memory goes back to torch's allocator at the end,
// which hands it out again in stream order.
class Session {
 public:
  Session(const torch::stable::Tensor& x, bool tf32);
  cuda::Runtime runtime();

 private:
  // Torch's guard moves torch's runtime to the device; the CUDA runtime in this library keeps its own idea of the
  // current device, and a thread of the autograd engine may not have a context yet.
  torch::stable::accelerator::DeviceGuard guard_;
  int32_t device_;
  torch::stable::Tensor like_;
  bool tf32_;
  Blas blas_;
  std::vector<torch::stable::Tensor> memory_;
};

}  // namespace fusedrnn::torch_ops
