// The CPU kernels against the oracle: products of options, sizes that are no multiple of anything, every way of cutting
// the work for threads. FUSEDRNN_ISA chooses the instruction set under test.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../../csrc/cells/all.h"
#include "../../csrc/cpu/schedule.h"
#include "cpu_case.h"
#include "cpu_check.h"
#include "cpu_tests.h"
#include "cpu_threads.h"

using fusedrnn::Dims;
using fusedrnn::DType;
using fusedrnn::cpu::force_split;
using fusedrnn::cpu::Split;

namespace {

constexpr Split kSplits[] = {{2, 1}, {1, 2}, {3, 1}, {1, 3}, {1, 1, true}, {2, 1, true}, {3, 1, true}};
constexpr int kSplitCount =
    sizeof(kSplits) / sizeof(kSplits[0]);  // prime to the number of sizes, and to the period of dy

// The oracle's gradients are those of its own forward pass, by central differences.
void oracle_is_its_own_derivative() {
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (int64_t P : {3, 2}) {
      if (P < 3 && fusedrnn::cells::kCells[cell].reads_h_prev) continue;
      Options o;
      o.cell = cell;
      o.dtype = DType::f64;
      o.n = {5, 3, 2, 3, P, 2};
      o.lengths = o.resets = true;
      o.seed = 5;
      Case c(o);
      const oracle::Gradients g = oracle::backward(c.layer, c.dy, c.dhn, c.dcn);
      auto loss = [&] {
        const oracle::Output out = oracle::forward(c.layer);
        double s = 0;
        for (size_t i = 0; i < out.y.size(); i++) s += out.y[i] * c.dy[i];
        for (size_t i = 0; i < out.h_n.size(); i++) s += out.h_n[i] * c.dhn[i];
        for (size_t i = 0; i < out.c_n.size(); i++) s += out.c_n[i] * c.dcn[i];
        return s;
      };
      auto agrees = [&](const char* what, oracle::Values& at, const oracle::Values& grad) {
        double worst = 0;
        for (size_t i = 0; i < at.size(); i++) {
          const double keep = at[i], e = 1e-6;
          at[i] = keep + e;
          const double up = loss();
          at[i] = keep - e;
          const double down = loss();
          at[i] = keep;
          worst = std::max(worst, std::abs((up - down) / (2 * e) - grad[i]));
        }
        check::that(worst < 1e-7, o.name() + ": oracle " + what + " differs from its difference quotient by " +
                                      std::to_string(worst));
      };
      agrees("dx", c.layer.x, g.dx);
      agrees("dh0", c.layer.h0, g.dh0);
      if (fusedrnn::cells::kCells[cell].has_cell) agrees("dc0", c.layer.c0, g.dc0);
      for (int d = 0; d < 2; d++) {
        agrees("dw_ih", c.layer.w[d].ih, g.dw[d].ih);
        agrees("dw_hh", c.layer.w[d].hh, g.dw[d].hh);
        agrees("db_ih", c.layer.w[d].b_ih, g.dw[d].b_ih);
        agrees("db_hh", c.layer.w[d].b_hh, g.dw[d].b_hh);
        agrees("dw_hr", c.layer.w[d].hr, g.dw[d].hr);
      }
    }
}

// Runs the case with a split on every kind of pool: right, and the same bits every time.
void check_case(const Options& o, Split split) {
  force_split(split);
  Case c(o);
  const Results first = c.run(pools::one);
  c.matches(first);
  for (const auto& pool : {pools::all[1 + o.seed % (pools::count - 1)], pools::one})
    check::that(c.run(pool) == first, o.name() + ": other bits on a second run, split " + std::to_string(split.groups) +
                                          "x" + std::to_string(split.parts) + (split.apart ? " apart" : ""));
  const Results inference = c.run(pools::one, false);
  check::that(
      inference.y.raw == first.y.raw && inference.h_n.raw == first.h_n.raw && inference.c_n.raw == first.c_n.raw,
      o.name() + ": other results when nothing is saved");
  force_split({0, 0});
}

void products_of_options() {
  unsigned seed = 1;
  const int64_t sizes[][4] = {{7, 5, 9, 13},   {4, 1, 3, 35}, {9, 7, 1, 8},   {1, 3, 17, 64}, {6, 11, 5, 1},
                              {13, 2, 33, 50}, {8, 5, 6, 34}, {5, 12, 20, 18}};  // even ones: products of bf16
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16})
      for (int bits = 0; bits < 64; bits++) {
        Options o;
        const int64_t* s = sizes[seed % 8];
        o.cell = cell;
        o.dtype = dtype;
        o.bias = bits & 1;
        o.states = !(bits & 2);
        o.lengths = bits & 4;
        o.resets = bits & 8;
        o.ids = bits & 16;
        const bool project = (bits & 32) && !fusedrnn::cells::kCells[cell].reads_h_prev && s[3] > 1;
        o.n = {s[0], s[1], s[2], s[3], project ? (s[3] + 1) / 2 : s[3], 1 + (seed / 8) % 2};
        o.dy = seed % 13 != 0;  // another period than the splits'
        o.seed = seed;
        while (oracle::nearest_kink(Case(o).layer) < 1e-5) o.seed += 10'000;
        check_case(o, kSplits[seed % kSplitCount]);
        seed++;
      }
}

// Sizes that reach what small ones do not: several chunks, runs of k, panels, groups.
void larger_sizes() {
  const Dims sizes[] = {{40, 33, 20, 48, 48, 1},  {300, 3, 11, 20, 20, 1},   {600, 1, 5, 33, 33, 2},
                        {3, 70, 1100, 24, 24, 1}, {3, 4, 8, 400, 400, 1},    {5, 300, 7, 30, 30, 1},
                        {20, 9, 40, 272, 272, 1}, {2, 3, 30, 1100, 1100, 1}, {2, 3, 30, 722, 370, 1}};
  unsigned seed = 1000;
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (const Dims& n : sizes) {
      if (n.H > 700 && cell != oracle::lstm && cell != oracle::elman_tanh) continue;
      Options o;
      o.cell = cell;
      o.dtype = seed % 2 == 0 ? DType::bf16 : DType::f32;
      o.n = n;
      o.lengths = seed % 3 == 0;
      o.resets = seed % 4 == 0;
      o.seed = seed;
      check_case(o, kSplits[seed % kSplitCount]);
      seed++;
    }
  Options o;
  o.cell = oracle::lstm;
  o.n = {30, 20, 24, 90, 40, 2};
  o.lengths = o.resets = true;
  for (DType dtype : {DType::f32, DType::bf16}) {  // all sizes even: products of bf16 beside the projection's in float
    o.dtype = dtype;
    for (const Split& s : kSplits) check_case(o, s);
  }
}

// For batches whose rows end at different times: T of 1 and several chunks, B of 3 and more than a group.
const Dims kRaggedSizes[] = {{7, 5, 9, 13, 13, 1},    {9, 7, 1, 8, 8, 2},     {6, 11, 6, 16, 16, 2},
                             {1, 3, 17, 64, 64, 1},   {8, 5, 6, 34, 18, 2},   {40, 33, 20, 48, 48, 1},
                             {300, 3, 11, 20, 20, 1}, {5, 12, 20, 18, 10, 1}, {60, 9, 12, 66, 66, 2}};

// Packed data give the bits that padded ones give, and need no more room than there is.
void packed_data() {
  unsigned seed = 5000;
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (const Dims& n : kRaggedSizes)
      for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
        if (n.P < n.H && fusedrnn::cells::kCells[cell].reads_h_prev) continue;
        Options o;
        o.cell = cell;
        o.dtype = dtype;
        o.n = n;
        o.lengths = o.sorted = true;
        const unsigned draw = seed * 2654435761u >> 16;  // so that no option goes with another
        o.states = draw & 1;
        o.ids = draw % 6 / 2 == 0;
        o.seed = seed;
        const Split split = kSplits[draw / 6 % kSplitCount];
        force_split(split);
        Case c(o);
        const auto& pool = pools::all[draw / 64 % pools::count];
        const Results padded = c.run(pools::one), packed = c.run_packed(pool);
        check::that(packed == padded, o.name() + ": other bits from packed data, split " +
                                          std::to_string(split.groups) + "x" + std::to_string(split.parts));
        const Results inference = c.run_packed(pool, false);
        check::that(inference.y.raw == padded.y.raw && inference.h_n.raw == padded.h_n.raw &&
                        inference.c_n.raw == padded.c_n.raw,
                    o.name() + ": other results from packed data when nothing is saved");
        force_split({0, 0});
        seed++;
      }
}

// Where what is saved ends with each row, the bits are the same, and no more room is needed than the rows are long.
void compact_saves() {
  unsigned seed = 6000;
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (const Dims& n : kRaggedSizes)
      for (DType dtype : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
        if (n.P < n.H && fusedrnn::cells::kCells[cell].reads_h_prev) continue;
        const unsigned draw = seed * 2654435761u >> 16;  // so that no option goes with another
        Options o;
        o.cell = cell;
        o.dtype = dtype;
        o.n = n;
        o.lengths = true;
        o.states = draw & 1;
        o.resets = draw & 2;
        o.ids = draw & 4;
        o.seed = seed++;
        const Split split = kSplits[draw / 8 % kSplitCount], then = kSplits[draw / 64 % kSplitCount];
        Case c(o);
        c.between = [&] { force_split(then); };  // the order of the rows is not that of the groups
        force_split(split);
        const Results padded = c.run(pools::one);
        force_split(split);
        check::that(c.run_compact(pools::all[draw / 512 % pools::count]) == padded,
                    o.name() + ": other bits where little is saved, split " + std::to_string(split.groups) + "x" +
                        std::to_string(split.parts) + ", then " + std::to_string(then.groups) + "x" +
                        std::to_string(then.parts));
        force_split({0, 0});
      }
}

// A streaming step is right, and gives each row the bits that it gives the row alone.
void streaming_steps() {
  const int64_t sizes[][2] = {{1, 1}, {3, 7}, {16, 16}, {13, 33}, {100, 18}};  // I, H
  unsigned seed = 7000;
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (DType dtype : {DType::f32, DType::f64})
      for (int64_t B : {1, 2, 3, 5, 7, 24, 25, 32}) {
        const unsigned draw = seed * 2654435761u >> 16;  // so that no option goes with another
        const int64_t* s = sizes[draw % 5];
        Options o;
        o.cell = cell;
        o.dtype = dtype;
        o.n = {1, B, s[0], s[1], s[1], 1};
        o.bias = draw / 5 % 3;
        o.states = draw / 15 % 2;
        o.ids = draw / 30 % 5 == 0;
        o.seed = seed;
        Case c(o);
        const auto& pool = pools::all[draw / 150 % pools::count];
        const Results all = c.step(pool);
        c.matches(all);
        const size_t row = all.y.raw.size() / B;
        bool same = all.y.raw == all.h_n.raw;
        for (int64_t b = 0; b < B; b++) {
          const Results alone = c.row(b).step(pool);
          same = same && std::equal(alone.y.raw.begin(), alone.y.raw.end(), all.y.raw.begin() + b * row) &&
                 std::equal(alone.c_n.raw.begin(), alone.c_n.raw.end(), all.c_n.raw.begin() + b * row);
        }
        check::that(same, o.name() + ": a row's step depends on the rows beside it");
        seed++;
      }
}

// The choice of the split is its own, and results agree whatever the number of threads.
void own_choice_of_split() {
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (const Dims& n : {Dims{60, 24, 30, 70, 70, 1}, Dims{200, 1, 30, 130, 130, 1}, Dims{50, 5, 64, 96, 96, 2}}) {
      Options o;
      o.cell = cell;
      o.n = n;
      o.seed = 77;
      Case c(o);
      for (const auto& pool : pools::all) c.matches(c.run(pool));
    }
}

void empty_batch() {
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (bool ids : {false, true}) {
      Options o;
      o.cell = cell;
      o.n = {4, 0, 3, 18, 18, 2};
      o.ids = ids;
      o.lengths = o.resets = true;
      check_case(o, {2, 1});
    }
}

void rows_without_steps() {
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++) {
    Options o;
    o.cell = cell;
    o.n = {6, 5, 3, 18, 18, 2};
    o.lengths = o.resets = true;
    force_split({2, 1, true});
    Case c(o);
    for (int64_t& l : c.layer.lengths) l = 0;
    c.matches(c.run(pools::all[1]));
    Case d(o);
    for (int64_t& l : d.layer.lengths) l = 0;
    d.layer.lengths[3] = 6;
    d.matches(d.run(pools::all[1]));
    force_split({0, 0});
  }
}

// NaN goes where torch lets it go: through relu too, and not into rows of the batch that do not hold it.
void not_a_number() {
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++) {
    Options o;
    o.cell = cell;
    o.n = {3, 4, 2, 19, 19, 1};
    Case c(o);
    c.layer.h0[2 * 19 + 5] = NAN;
    c.set_h0(c.layer.h0);
    const oracle::Values y = c.run(pools::one).y.values();
    bool spread = true, kept = true;
    for (int64_t t = 0; t < 3; t++)
      for (int64_t b = 0; b < 4; b++)
        for (int64_t j = 0; j < 19; j++) {
          const bool nan = std::isnan(y[(t * 4 + b) * 19 + j]);
          if (b == 2) spread = spread && nan;
          if (b != 2) kept = kept && !nan;
        }
    check::that(spread, o.name() + ": NaN in the state did not reach every output of its row");
    check::that(kept, o.name() + ": NaN in one row reached another");
  }
}

// Scratch is kept between calls: what an earlier call left there must not show, not even NaN times zero.
void scratch_of_an_earlier_call() {
  for (int cell = 0; cell < fusedrnn::cells::kCellCount; cell++)
    for (DType dtype : {DType::f64, DType::f32, DType::bf16})
      for (int64_t T : {1, 4}) {
        Options o;
        o.cell = cell;
        o.dtype = dtype;
        o.n = {T, 3, 6, 18, 18, 2};
        o.states = false;
        o.resets = o.lengths = true;
        o.seed = 9;
        Case c(o);
        Options spoiled = o;
        spoiled.n = {40, 9, 60, 70, 70, 2};
        spoiled.lengths = spoiled.resets = false;
        Case s(spoiled);
        s.set_x(oracle::Values(s.layer.x.size(), NAN));
        s.run(pools::one);
        c.matches(c.run(pools::one));
      }
}

}  // namespace

void test_layers() {
  oracle_is_its_own_derivative();
  products_of_options();
  larger_sizes();
  packed_data();
  compact_saves();
  streaming_steps();
  own_choice_of_split();
  empty_batch();
  rows_without_steps();
  not_a_number();
  scratch_of_an_earlier_call();
}
