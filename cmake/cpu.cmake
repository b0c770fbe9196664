# The CPU library: the kernels and the ops on CPU tensors.
include(${CMAKE_CURRENT_LIST_DIR}/cpu_kernels.cmake)
add_library(fusedrnn_cpu SHARED csrc/torch/schema.cpp csrc/torch/cpu_layer.cpp csrc/torch/run.cpp
  csrc/torch/generate.cpp csrc/torch/large.cpp csrc/torch/cross_entropy.cpp)
target_link_libraries(fusedrnn_cpu PRIVATE torch_stable)
fusedrnn_add_cpu_kernels(fusedrnn_cpu)
