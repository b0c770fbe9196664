# The CUDA library. It builds and links against a CPU-only torch; Python loads it only where CUDA is present.
set(FUSEDRNN_CUDA_BUILD "")
if(FUSEDRNN_CUDA STREQUAL "OFF")
  return()
endif()
# AUTO spends the minutes of nvcc only where the result can be used: with a torch that has CUDA.
if(FUSEDRNN_CUDA STREQUAL "AUTO" AND NOT EXISTS "${FUSEDRNN_TORCH_ROOT}/lib/libtorch_cuda.so")
  message(STATUS "fusedrnn: this torch has no CUDA, building the CPU part alone")
  return()
endif()
include(CheckLanguage)
# $CUDAARCHS is CMake's own variable; enable_language() reads it.
if(DEFINED CMAKE_CUDA_ARCHITECTURES OR NOT "$ENV{CUDAARCHS}" STREQUAL "")
  set(fusedrnn_choose_archs OFF)
else()
  set(fusedrnn_choose_archs ON)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real)
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(FUSEDRNN_CUDA STREQUAL "ON")
    message(FATAL_ERROR "FUSEDRNN_CUDA=ON, but no CUDA compiler was found (set CUDACXX)")
  endif()
  message(STATUS "fusedrnn: no CUDA compiler, building the CPU part alone")
  return()
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(FUSEDRNN_CUDA_BUILD "${CMAKE_CUDA_COMPILER_VERSION}")
if(fusedrnn_choose_archs)
  # The last of them is for chips that come later, too.
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
    list(APPEND CMAKE_CUDA_ARCHITECTURES 90-virtual)
  else()
    list(APPEND CMAKE_CUDA_ARCHITECTURES 100-real 100-virtual)
  endif()
endif()

file(GLOB cuda_sources CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/csrc/cuda/*.cu ${CMAKE_SOURCE_DIR}/csrc/cuda/*.cpp
  ${CMAKE_SOURCE_DIR}/csrc/torch/cuda_*.cpp)
add_library(fusedrnn_cuda SHARED ${cuda_sources})
set_target_properties(fusedrnn_cuda PROPERTIES
  CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden)
# Each kernel's registers, stack and spills are kept beside the objects, where a test reads them.
if(CMAKE_HOST_UNIX)
  # As a list of its own, which has no empty element where no other launcher is set: CMake 4.4 hands that on as a word.
  set(launcher sh ${CMAKE_SOURCE_DIR}/cmake/keep_ptxas_log.sh ${CMAKE_BINARY_DIR}/ptxas ${CMAKE_CUDA_COMPILER_LAUNCHER})
  set_target_properties(fusedrnn_cuda PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
  target_compile_options(fusedrnn_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xptxas -v>")
endif()
if(FUSEDRNN_POLL_LIMIT)
  target_compile_definitions(fusedrnn_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:FUSEDRNN_POLL_LIMIT=${FUSEDRNN_POLL_LIMIT}>)
endif()
target_include_directories(fusedrnn_cuda SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_link_libraries(fusedrnn_cuda PRIVATE torch_stable ${CMAKE_DL_LIBS})
target_link_options(fusedrnn_cuda PRIVATE -Wl,--exclude-libs,ALL)
