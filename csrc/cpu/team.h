// Threads that go through a piece of work together, phase by phase, without ever depending on each other's presence.
//
// The work is a function that every member runs from the start. It consists of phases; in a phase with n members, member i
// does share i of n, and nobody starts the next phase before all shares are done. The first thread to arrive leads and
// begins at once; a thread that arrives later skips the phases it missed and is counted in from the next one; a thread
// that arrives after the end returns. So the work is done whether the bodies run together, one after another, in any
// order, or not at all but for one. Waiting spins for some microseconds and then yields the core.
#pragma once
#include <cstdint>

#include "backend.h"

namespace fusedrnn::cpu {

struct TeamState;

class Member {
 public:
  // Begins the next phase. False: this member has no share in it and must neither do it nor call leave.
  bool enter();
  // Ends the phase: returns when all shares are done.
  void leave();
  // In a phase: this member's number and how many there are.
  int rank() const { return rank_; }
  int size() const { return size_; }

 private:
  friend struct TeamState;
  TeamState* team_ = nullptr;  // null: alone
  int rank_ = 0, size_ = 1;
  int64_t phase_ = 0, first_ = 0;
  bool dismissed_ = false;
};

// Runs work(ctx, member) on up to `limit` of the threads. tight: phases are so short (a time step) that waiting for a
// thread that lost its core would cost more than it ever brings; the first such wait ends the cooperation for this call,
// and the next few tight calls stay on one thread.
void run_team(const Threads& threads, int limit, bool tight, void (*work)(void* ctx, Member&), void* ctx);

constexpr int kMaxTeam = 64;

}  // namespace fusedrnn::cpu
