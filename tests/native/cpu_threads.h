// Thread pools to run the kernels on: real threads, and two that run the bodies one after another, which a kernel that
// waits for a partner would not survive.
#pragma once
#include <chrono>
#include <thread>
#include <vector>

#include "../../csrc/cpu/backend.h"

namespace pools {

using Body = void (*)(void*, int64_t);

inline void in_order(int64_t n, Body body, void* ctx) {
  for (int64_t i = 0; i < n; i++) body(ctx, i);
}
inline void reversed(int64_t n, Body body, void* ctx) {
  for (int64_t i = n - 1; i >= 0; i--) body(ctx, i);
}
inline void at_once(int64_t n, Body body, void* ctx) {
  std::vector<std::thread> all;
  for (int64_t i = 1; i < n; i++) all.emplace_back(body, ctx, i);
  body(ctx, 0);
  for (std::thread& t : all) t.join();
}
// The others come in the middle of the work or after it.
inline void late(int64_t n, Body body, void* ctx) {
  std::vector<std::thread> all;
  for (int64_t i = 1; i < n; i++)
    all.emplace_back([=] {
      std::this_thread::sleep_for(std::chrono::microseconds(20 * i));
      body(ctx, i);
    });
  body(ctx, 0);
  for (std::thread& t : all) t.join();
}

inline const fusedrnn::cpu::Threads one = {1, in_order};
inline const fusedrnn::cpu::Threads all[] = {one, {2, at_once}, {3, at_once}, {3, reversed}, {2, in_order}, {3, late}};
inline constexpr int count = sizeof(all) / sizeof(all[0]);

}  // namespace pools
