// Arrays of the storage types, and rounding to them, by means of their own: nothing of the kernels' conversions.
#pragma once
#include <vector>

#include "../../csrc/cpu/backend.h"
#include "cpu_oracle.h"

size_t bytes_of(fusedrnn::DType type);

// Elements of the storage type, with their values.
struct Array {
  fusedrnn::DType dtype = fusedrnn::DType::f32;
  std::vector<unsigned char> raw;
  Array() = default;
  Array(fusedrnn::DType type, size_t count);                  // every byte 0xa5
  Array(fusedrnn::DType type, const oracle::Values& values);  // rounded to the type
  oracle::Values values() const;
  void* data() { return raw.data(); }
};

double round_to(fusedrnn::DType type, double x);
