// Threads that go through a piece of work together, phase by phase, without ever depending on each other's presence.
//
// The work is a function that every member runs from the start. It consists of phases; in a phase with n members,
// member i does share i of n, and nobody starts the next phase before all shares are done. The first thread to arrive
// leads and begins at once; a thread that arrives later skips the phases it missed and is counted in from the next one;
// a thread that arrives after the end returns. So the work is done whether the bodies run together, one after another,
// in any order, or not at all but for one.
//
// Pieces of work that need nothing from each other are dealt out one by one (share_out): whoever is there takes the
// next one, also a thread that arrives while the others are at it.
//
// Waiting for a share spins for some microseconds and then yields the core. A thread that lost its core to somebody
// else can make a phase last as long as that takes. Where the waits for threads without a core exceed what the others
// spare (spared.h), the leader goes on alone, after a wait of more than 0.2 ms, for several times as long, in this call
// and in later ones (alone.h), so that a busy neighbour costs a fraction and not a multiple; waits that are rarer are
// borne. Threads that have a core and are late, say since the system takes its time over new pages, are waited for.
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
  // In place of a phase: f(rank, i) for every i < count, each once; returns when all are done. rank: of the member that
  // runs the piece, below the limit. At most kMostShared times in a piece of work, and in the same order for all
  // members.
  template <class F>
  void share_out(int64_t count, F f) {
    auto body = [](void* ctx, int rank, int64_t i) { (*static_cast<F*>(ctx))(rank, i); };
    share_out(count, body, &f);
  }
  // In a phase: this member's number and how many there are.
  int rank() const { return rank_; }
  int size() const { return size_; }

 private:
  friend struct TeamState;
  void share_out(int64_t count, void (*body)(void* ctx, int rank, int64_t i), void* ctx);
  TeamState* team_ = nullptr;  // null: alone
  int rank_ = 0, size_ = 1;
  int64_t phase_ = 0;  // the next one
  int64_t first_ = 0;  // phases before this one are skipped
  int shared_ = 0;     // calls of share_out so far
};

// Runs work(ctx, member) on up to `limit` of the threads.
void run_team(const Threads& threads, int limit, void (*work)(void* ctx, Member&), void* ctx);

// How long a leader that waited stays alone at most, in lengths of its wait, in place of Alone::kMost. For tests.
void limit_time_alone(int lengths);

constexpr int kMaxTeam = 64;
constexpr int kMostShared = 4;

}  // namespace fusedrnn::cpu
