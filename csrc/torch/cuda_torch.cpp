#include "cuda_torch.h"

#include <dlfcn.h>
#include <torch/csrc/stable/ops.h>

#include <mutex>
#include <stdexcept>
#include <string>

#include "../cuda/check.h"

namespace fusedrnn::torch_ops {
namespace {

// A function of torch's CUDA library or of one that it is linked to: of several cuBLAS in a process, the one that made
// torch's handle. Python loads extension modules privately, so the global scope alone does not show them; it, and
// cuBLAS by name, serve a torch that is linked otherwise.
void* find(const char* symbol) {
  const auto in = [symbol](const char* name) -> void* {
    void* const library = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    return library ? dlsym(library, symbol) : nullptr;
  };
  if (void* p = in("libtorch_cuda.so")) return p;
  if (void* p = dlsym(RTLD_DEFAULT, symbol)) return p;
  if (void* p = in("libcublas.so.13")) return p;
  return in("libcublas.so.12");
}
template <class F>
F find_or_throw(const char* symbol) {
  void* p = find(symbol);
  if (!p)
    throw std::runtime_error(std::string("fusedrnn: expected a torch >= 2.10 with CUDA, but it has no ") + symbol);
  return reinterpret_cast<F>(p);
}

using TorchGetter = int (*)(void**);

// cuBLAS as its documentation declares it. The numbers are the values of its enumerations.
using GemmEx = int (*)(void*, int, int, int64_t, int64_t, int64_t, const void*, const void*, int, int64_t, const void*,
                       int, int64_t, const void*, void*, int, int64_t, int, int);
using GemmBatchedEx = int (*)(void*, int, int, int64_t, int64_t, int64_t, const void*, const void*, int, int64_t,
                              long long, const void*, int, int64_t, long long, const void*, void*, int, int64_t,
                              long long, int64_t, int, int);
constexpr int kNoTranspose = 0, kTranspose = 1, kDefaultAlgorithm = -1;
constexpr int kCompute32F = 68, kCompute64F = 70, kCompute32FFastTF32 = 77;
// CUBLAS_DEFAULT_MATH with CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION: sums stay in float32.
constexpr int kMathMode = 16;

struct Cublas {
  GemmEx gemm;
  GemmBatchedEx gemm_batched;
  int (*get_mode)(void*, int*);
  int (*set_mode)(void*, int);
  const char* (*status)(int);
};
const Cublas& cublas() {
  static const Cublas c{
      find_or_throw<GemmEx>("cublasGemmEx_64"), find_or_throw<GemmBatchedEx>("cublasGemmStridedBatchedEx_64"),
      find_or_throw<int (*)(void*, int*)>("cublasGetMathMode"), find_or_throw<int (*)(void*, int)>("cublasSetMathMode"),
      find_or_throw<const char* (*)(int)>("cublasGetStatusString")};
  return c;
}
void check_blas(int status, const char* what) {
  if (status != 0) throw std::runtime_error(std::string("fusedrnn: ") + what + ": " + cublas().status(status));
}

int cuda_type(DType t) {
  switch (t) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_16F;
  }
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  cuda::check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

cuda::Device read_device(int i) {
  cuda::Device d{};
  d.arch = attribute(cudaDevAttrComputeCapabilityMajor, i) * 10 + attribute(cudaDevAttrComputeCapabilityMinor, i);
  if (d.arch < 80)
    throw std::runtime_error("fusedrnn: expected a GPU of compute capability 8.0 or later, got " +
                             std::to_string(d.arch / 10) + "." + std::to_string(d.arch % 10));
  d.sms = attribute(cudaDevAttrMultiProcessorCount, i);
  d.smem_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, i);
  d.smem_sm = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, i);
  d.regs_sm = attribute(cudaDevAttrMaxRegistersPerMultiprocessor, i);
  d.threads_sm = attribute(cudaDevAttrMaxThreadsPerMultiProcessor, i);
  d.max_cluster = attribute(cudaDevAttrClusterLaunch, i) ? cuda::largest_cluster(d.arch) : 0;
  d.cooperative = attribute(cudaDevAttrCooperativeLaunch, i) != 0;
  return d;
}

int32_t make_current(int32_t device) {
  cuda::check(cudaSetDevice(device), "cudaSetDevice");
  return device;
}

}  // namespace

cudaStream_t current_stream(int32_t device_index) {
  using Getter = int (*)(int32_t, void**);
  static const Getter get = find_or_throw<Getter>("aoti_torch_get_current_cuda_stream");
  void* stream = nullptr;
  if (get(device_index, &stream) != 0) throw std::runtime_error("fusedrnn: torch has no current CUDA stream");
  return static_cast<cudaStream_t>(stream);
}

const cuda::Device& device_facts(int32_t device_index) {
  constexpr int kMost = 128;
  static cuda::Device devices[kMost];
  static std::once_flag once[kMost];
  if (device_index < 0 || device_index >= kMost)
    throw std::runtime_error("fusedrnn: expected a CUDA device index below 128, got " + std::to_string(device_index));
  std::call_once(once[device_index], [&] { devices[device_index] = read_device(device_index); });
  return devices[device_index];
}

Blas::Blas() {
  static const auto get = find_or_throw<TorchGetter>("torch_get_current_cuda_blas_handle");
  if (get(&handle_) != 0) throw std::runtime_error("fusedrnn: torch has no cuBLAS handle");
  check_blas(cublas().get_mode(handle_, &mode_before_), "cublasGetMathMode");
  check_blas(cublas().set_mode(handle_, kMathMode), "cublasSetMathMode");
}
Blas::~Blas() { cublas().set_mode(handle_, mode_before_); }

// cuBLAS counts columns first, so it is asked for C^T = op(B)^T A^T, which is the same memory.
void Blas::run(const cuda::Product& p, bool tf32) const {
  const float alpha32 = 1, beta32 = static_cast<float>(p.beta);
  const double alpha64 = 1;
  const bool wide = p.in == DType::f64;
  const void* alpha = wide ? static_cast<const void*>(&alpha64) : &alpha32;
  const void* beta = wide ? static_cast<const void*>(&p.beta) : &beta32;
  const int compute = wide ? kCompute64F : p.in == DType::f32 && tf32 ? kCompute32FFastTF32 : kCompute32F;
  const int tb = p.tb ? kTranspose : kNoTranspose, ta = p.ta ? kTranspose : kNoTranspose;
  const int in = cuda_type(p.in), out = cuda_type(p.out);
  const int status = p.batch == 1 ? cublas().gemm(handle_, tb, ta, p.n, p.m, p.k, alpha, p.b, in, p.ldb, p.a, in, p.lda,
                                                  beta, p.c, out, p.ldc, compute, kDefaultAlgorithm)
                                  : cublas().gemm_batched(handle_, tb, ta, p.n, p.m, p.k, alpha, p.b, in, p.ldb,
                                                          p.stride_b, p.a, in, p.lda, p.stride_a, beta, p.c, out, p.ldc,
                                                          p.stride_c, p.batch, compute, kDefaultAlgorithm);
  check_blas(status, "cuBLAS product");
}

Session::Session(const torch::stable::Tensor& x, bool tf32)
    : guard_(x.get_device_index()), device_(make_current(x.get_device_index())), like_(x), tf32_(tf32) {}

cuda::Runtime Session::runtime() {
  cuda::Runtime rt{};
  rt.device = device_facts(device_);
  rt.stream = current_stream(device_);
  rt.tf32 = tf32_;
  rt.ctx = this;
  rt.alloc = [](void* ctx, size_t bytes) -> void* {
    Session& s = *static_cast<Session*>(ctx);
    const int64_t size[1] = {static_cast<int64_t>(bytes > 0 ? bytes : 1)};
    s.memory_.push_back(torch::stable::new_empty(s.like_, {size, 1}, torch::headeronly::ScalarType::Byte));
    return s.memory_.back().mutable_data_ptr();
  };
  rt.gemm = [](void* ctx, const cuda::Product& p) {
    const Session& s = *static_cast<Session*>(ctx);
    s.blas_.run(p, s.tf32_);
  };
  return rt;
}

}  // namespace fusedrnn::torch_ops
