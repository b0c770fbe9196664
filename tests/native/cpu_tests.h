// The parts of the test program.
#pragma once

void test_layers();
void test_conversions();
void test_blocks();
void test_pools();
void test_generate();
void test_cross_entropy();
void team_under_sleepers();
void team_weighs_waits();
void leader_goes_alone();
void leader_waits_for_pieces();
void team_stays_alone();
void system_says_how_idle_it_is();
void team_hopes_again();
void team_measures_what_meeting_costs();
// The functions of csrc/cells/math.h as each instruction set compiles them. Only for a machine that has
// it.
void test_math_baseline();
void test_math_v3();
void test_math_v4();
