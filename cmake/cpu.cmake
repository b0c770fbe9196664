# The CPU library: the kernels, compiled once for each instruction set, and the ops on CPU tensors.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(isas v2 v3 v4)
  set(isa_flags_v2 -march=x86-64-v2)
  set(isa_flags_v3 -march=x86-64-v3)
  set(isa_flags_v4 -march=x86-64-v4 -mprefer-vector-width=512)
else()
  set(isas baseline)
  set(isa_flags_baseline "")
endif()

# Each isa_*.cpp lives in the namespace that isa_namespace.h makes of FUSEDRNN_ISA_ID.
file(GLOB isa_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/cpu/isa_*.cpp)
file(GLOB common_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/csrc/cpu/*.cpp)
list(REMOVE_ITEM common_sources ${isa_sources})

add_library(fusedrnn_cpu SHARED
  ${common_sources} csrc/torch/schema.cpp csrc/torch/cpu_layer.cpp)
target_link_libraries(fusedrnn_cpu PRIVATE torch_stable)
foreach(isa ${isas})
  add_library(cpu_${isa} OBJECT ${isa_sources})
  target_compile_options(cpu_${isa} PRIVATE -O3 -fno-math-errno -ffp-contract=fast ${isa_flags_${isa}})
  target_compile_definitions(cpu_${isa} PRIVATE FUSEDRNN_ISA_ID=${isa})
  target_sources(fusedrnn_cpu PRIVATE $<TARGET_OBJECTS:cpu_${isa}>)
endforeach()
