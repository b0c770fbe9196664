// What it costs the members of a team to end a phase together: measured in this process, now and then, since it depends
// on where the cores lie, by calls that go through empty phases before their work.
#pragma once
#include "team.h"

namespace fusedrnn::cpu {

// In nanoseconds: a hopeful guess before anything was measured, and now and then again, so that somebody measures anew.
// Otherwise one high figure would keep everybody alone for good: who is alone measures nothing.
double phase_cost();

// What phase_cost has measured; 0: nothing. For tests, too.
void assume_phase_cost(int ns);

// Whether somebody has heard the hopeful figure since this last said yes: the call that asks is to measure.
bool meeting_cost_wanted();

// Work of a team with empty phases before it, which are measured: the quickest row of them. A phase by itself would not
// do: a member that is ahead by one makes it look free.
struct MeetFirst {
  void (*work)(void* ctx, Member&);
  void* ctx;
  static void run(void* self, Member& m);
};

}  // namespace fusedrnn::cpu
