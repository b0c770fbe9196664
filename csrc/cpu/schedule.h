// Which rows take part in which step, and how a layer's work is cut for threads.
#pragma once
#include "../layer.h"
#include "scratch.h"

namespace fusedrnn::cpu {

// How a layer is cut: the batch into groups that never meet in the recurrence, the units of every group into parts that
// meet once per step. groups * parts cells are dealt out to the members of a team.
struct Split {
  int groups, parts;
  // Backward: the groups do not meet for the sums of the weight gradients either; each has its own, which are added up
  // at the end. Only where units are not cut.
  bool apart = false;
  int threads() const { return groups * parts; }
};

// Makes choose_split return `split`, as far as the sizes allow it; {0, 0}: its own choice again. For tests.
void force_split(Split split);

// unit_blocks: blocks of units that can be dealt out; gates, n, element bytes as in layer.h.
Split choose_split(const Dims& n, int gates, int64_t unit_blocks, int element_bytes, int threads);

// How many threads to run a split on: fewer than it has cells where meeting costs more on this machine than it brings.
// The results are the same either way.
int useful_threads(const Dims& n, int gates, int64_t unit_blocks, int element_bytes, Split split);

// The rows of the batch in the order they are worked on: group by group, longest first in each. Position r of the order
// is row order[r] of the batch (r itself where order is null). At step t the rows of group g that have not ended are
// the first active(g, t) of its positions begin(g) .. begin(g+1).
class Schedule {
 public:
  // Takes what it needs from the arena; with a counting arena nothing is read or written.
  Schedule(Arena& arena, const ForwardArgs& a, int groups);
  void fill();

  int groups() const { return groups_; }
  int64_t begin(int g) const { return order_ ? begin_[g] : n_.B * g / groups_; }
  int64_t active(int g, int64_t t) const {
    return order_ ? (count_[t] - g + groups_ - 1) / groups_ : begin(g + 1) - begin(g);
  }
  int64_t active(int64_t t) const { return order_ ? count_[t] : n_.B; }  // all groups
  const int32_t* order() const { return order_; }
  int64_t row(int64_t r) const { return order_ ? order_[r] : r; }
  int64_t length(int64_t b) const { return lengths_ ? lengths_[b] : n_.T; }

  // Row b of step t is number at(t) + b in an array of [T, B, ..], which has at(T) rows.
  int64_t at(int64_t t) const { return starts_ ? starts_[t] : t * n_.B; }
  // In what forward saves, an array of [D, T, B, ..] or compact, position r of step t is number saved_at(d, t) +
  // saved_order()[r], or + r where that is null.
  int64_t saved_at(int d, int64_t t) const {
    return compact_ ? d * saved_starts_[n_.T] + saved_starts_[t] : d * at(n_.T) + at(t);
  }
  const int32_t* saved_order() const { return compact_ ? sorted_ : order_; }
  // Whether rows that have ended are there too.
  bool padded() const { return !starts_; }

  // Whether the state that enters step t of row b, in direction d, is cut off by a reset.
  bool cut(int d, int64_t t, int64_t b) const {
    if (!resets_) return false;
    if (d == 0) return resets_[t * n_.B + b];
    return t + 1 < length(b) && resets_[(t + 1) * n_.B + b];
  }
  // Whether cut(d, t, b) may hold for some b.
  bool any_cut(int d, int64_t t) const {
    if (!resets_) return false;
    return d == 0 ? any_reset_[t] : t + 1 < n_.T && any_reset_[t + 1];
  }
  // Whether row b of direction d starts at step t.
  bool starts(int d, int64_t t, int64_t b) const { return d == 0 ? t == 0 : t == length(b) - 1; }

 private:
  Dims n_;
  int groups_;
  const int64_t* lengths_;
  const bool* resets_;
  const int64_t* starts_;
  bool compact_;
  int32_t* order_ = nullptr;
  int32_t* count_ = nullptr;         // [T] rows with length > t
  int64_t* begin_ = nullptr;         // [groups + 1]
  int32_t* sorted_ = nullptr;        // [B] number, among all rows sorted by length, of the row at a position
  int64_t* saved_starts_ = nullptr;  // [T + 1] valid rows before step t
  bool* any_reset_ = nullptr;        // [T]
};

}  // namespace fusedrnn::cpu
