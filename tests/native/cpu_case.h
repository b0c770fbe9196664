// One layer call for the CPU kernels: its options, arrays of the storage type filled from a seed, both passes, and the
// comparison with the oracle.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../../csrc/cpu/backend.h"
#include "cpu_array.h"

struct Options {
  int cell = 0;
  fusedrnn::DType dtype = fusedrnn::DType::f32;
  fusedrnn::Dims n = {5, 3, 4, 6, 6, 1};  // P < H: with a projection
  bool bias = true, states = true;        // states: h0, c0, dh_n, dc_n are given, dh0, dc0 wanted
  bool lengths = false, resets = false, ids = false;
  bool sorted = false;  // lengths do not increase
  bool dy = true;
  unsigned seed = 1;
  std::string name() const;
};

struct Results {
  Array y, h_n, c_n, dx, dh0, dc0, dw[2][5];
  bool operator==(const Results&) const;
};

struct Case {
  explicit Case(const Options& o);
  Case(Case&&) = default;
  Results run(const fusedrnn::cpu::Threads& threads, bool save = true);
  // Row b of the batch alone, for T = 1.
  Case row(int64_t b) const;
  // One streaming step, for T = 1 without lengths and resets.
  Results step(const fusedrnn::cpu::Threads& threads);
  // The same as run of packed data; y and dx come back padded. For lengths that are sorted, without resets.
  Results run_packed(const fusedrnn::cpu::Threads& threads, bool save = true);
  // The same as run, with lengths, where what is saved ends with each row.
  Results run_compact(const fusedrnn::cpu::Threads& threads);
  // Compares with the oracle; true if everything is within the tolerance of the type.
  bool matches(const Results& r);
  void set_x(const oracle::Values& x) { x_ = Array(o.dtype, x); }
  void set_h0(const oracle::Values& h0) { h0_ = Array(o.dtype, h0); }

  Options o;
  std::function<void()> between = [] {};  // called between forward and backward
  oracle::Layer layer;
  oracle::Values dy, dhn, dcn;

 private:
  fusedrnn::Weights weights(int d);
  Results run(const fusedrnn::cpu::Threads& threads, bool save, const int64_t* starts, bool compact);
  // Rows of `row` elements, [T][B] of them, without those past the lengths; and back, with zeros there.
  Array packed(const Array& padded, int64_t row, const int64_t* starts);
  Array padded(const Array& packed, int64_t row, const int64_t* starts);
  const oracle::Output& expected_output();
  const oracle::Gradients& expected_gradients();
  std::unique_ptr<oracle::Output> output_;
  std::unique_ptr<oracle::Gradients> gradients_;
  Array x_, h0_, c0_, dy_, dhn_, dcn_, w_[2][5];
  std::vector<int64_t> ids_;
};
