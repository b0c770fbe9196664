// Launches of kernels that run in thread-block clusters and keep much in shared memory.
#pragma once
#include <map>
#include <mutex>
#include <utility>

#include "device.h"
#include "family.h"
#include "resident.h"

namespace fusedrnn::cuda {

#if !defined(FUSEDRNN_EMULATED)
inline cudaLaunchConfig_t cluster_config(const Plan& plan, int64_t D, cudaStream_t stream,
                                         cudaLaunchAttribute& cluster) {
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {static_cast<unsigned>(plan.cluster), 1, 1};
  cudaLaunchConfig_t c{};
  c.gridDim = dim3(static_cast<unsigned>(plan.blocks), static_cast<unsigned>(D));
  c.blockDim = dim3(static_cast<unsigned>(plan.threads));
  c.dynamicSmemBytes = static_cast<size_t>(plan.smem);
  c.stream = stream;
  c.attrs = &cluster;
  c.numAttrs = 1;
  return c;
}

// Whether the image that the device loads was compiled with clusters: one made by the driver from older PTX is empty.
inline cudaError_t has_clusters(const void* kernel) {
  cudaFuncAttributes found{};
  const cudaError_t e = cudaFuncGetAttributes(&found, kernel);
  return e == cudaSuccess && found.ptxVersion < 90 ? cudaErrorNoKernelImageForDevice : e;
}
#endif

// Whether a cluster of the plan's size can be resident on the current device at all, by kernel, size and device. Sets
// the kernel's attributes, too, which must precede a capture.
inline bool cluster_accepted([[maybe_unused]] const void* kernel, [[maybe_unused]] const Plan& plan) {
#if defined(FUSEDRNN_EMULATED)
  return true;
#else
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, Answers<std::pair<int, int> > > all;  // by cluster and shared memory
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard<std::mutex> lock(mutex);
  Answers<std::pair<int, int> >& answers = all[{kernel, device}];
  const int clusters = answers.get({plan.cluster, plan.smem}, [&](int& most) {
    cudaLaunchAttribute cluster{};
    const cudaLaunchConfig_t config = cluster_config(plan, 1, nullptr, cluster);
    cudaError_t e = has_clusters(kernel);
    if (e == cudaSuccess) e = answers.allow(kernel, plan.smem);
    if (e == cudaSuccess && plan.cluster > 8)
      e = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (e == cudaSuccess) e = cudaOccupancyMaxActiveClusters(&most, kernel, &config);
    return e;
  });
  return clusters > 0;
#endif
}

// Enqueues kernel(args) on a grid of plan.blocks by D blocks.
template <class Args>
Launch launch_clusters(const char* name, void (*kernel)(Args), const Plan& plan, int64_t D, cudaStream_t stream,
                       Args args) {
#if defined(FUSEDRNN_EMULATED)
  (void)name, (void)stream;
  simt::launch(dim3(unsigned(plan.blocks), unsigned(D)), dim3(unsigned(plan.threads)), size_t(plan.smem), false,
               unsigned(plan.cluster), [&] { kernel(args); });
#else
  cudaLaunchAttribute cluster{};
  const cudaLaunchConfig_t config = cluster_config(plan, D, stream, cluster);
  void* pointers[] = {&args};
  const cudaError_t e = cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), pointers);
  if (e == cudaErrorLaunchOutOfResources || e == cudaErrorInvalidClusterSize) {
    (void)cudaGetLastError();
    return Launch::refused;
  }
  check(e, name);
#endif
  return Launch::done;
}

}  // namespace fusedrnn::cuda
