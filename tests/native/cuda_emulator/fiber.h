// Fibers for the CUDA emulator: a stack and a switch, known to AddressSanitizer and ThreadSanitizer. One translation
// unit of a program defines SIMT_MAIN before it includes the emulator; the switch lives there.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char*, int);
extern "C" void AnnotateIgnoreReadsEnd(const char*, int);
extern "C" void AnnotateIgnoreWritesBegin(const char*, int);
extern "C" void AnnotateIgnoreWritesEnd(const char*, int);
#define SIMT_NO_TSAN __attribute__((no_sanitize("thread")))
#else
#define SIMT_NO_TSAN
#endif

namespace simt {

// While one lives, the thread sanitizer looks away: the emulator's own bookkeeping is no race of the kernel's.
struct Hidden {
#if defined(__SANITIZE_THREAD__)
  Hidden() {
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
  }
  ~Hidden() {
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
  }
#else
  Hidden() {}
#endif
};

// Orders what happened before release(p) in one fiber before what follows acquire(p) in another, for the sanitizer.
SIMT_NO_TSAN inline void hb_release([[maybe_unused]] void* p) {
#if defined(__SANITIZE_THREAD__)
  __tsan_release(p);
#endif
}
SIMT_NO_TSAN inline void hb_acquire([[maybe_unused]] void* p) {
#if defined(__SANITIZE_THREAD__)
  __tsan_acquire(p);
#endif
}

struct Fiber {
  void* sp = nullptr;
  char* stack = nullptr;
  bool done = false;
  void* fake_stack = nullptr;  // AddressSanitizer
  void* tsan = nullptr;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr size_t kStack = 256 << 10;
#else
inline constexpr size_t kStack = 64 << 10;
#endif
inline void* scheduler_sp;
inline void* scheduler_tsan;
inline void* scheduler_fake;
inline const void* scheduler_stack;
inline size_t scheduler_stack_size;

#if !defined(__x86_64__)
#error "the CUDA emulator switches stacks on x86-64 only"
#endif
extern "C" void simt_switch(void** save, void* to);
#ifdef SIMT_MAIN
asm(R"(.text
.globl simt_switch
.type simt_switch,@function
simt_switch:
 pushq %rbp
 pushq %rbx
 pushq %r12
 pushq %r13
 pushq %r14
 pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15
 popq %r14
 popq %r13
 popq %r12
 popq %rbx
 popq %rbp
 ret
.size simt_switch,.-simt_switch
)");
#endif

// From the fiber back to the scheduler.
SIMT_NO_TSAN inline void leave(Fiber& f) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(f.done ? nullptr : &f.fake_stack, scheduler_stack, scheduler_stack_size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(scheduler_tsan, 1);  // 1: a switch orders nothing
#endif
  simt_switch(&f.sp, scheduler_sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(f.fake_stack, &scheduler_stack, &scheduler_stack_size);
#endif
}

// From the scheduler into the fiber.
SIMT_NO_TSAN inline void enter(Fiber& f) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake, f.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(f.tsan, 1);
#endif
  simt_switch(&scheduler_sp, f.sp);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

// The first thing a fiber must do on its own stack.
SIMT_NO_TSAN inline void arrived() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
}

// Prepares the fiber to run `entry`, which must never return.
inline void prepare(Fiber& f, char* stack, void (*entry)()) {
  void* tsan = f.tsan;
  f = Fiber{};
  f.tsan = tsan;
  f.stack = stack;
  void** sp = reinterpret_cast<void**>(stack + kStack);
  *--sp = nullptr;  // keeps the stack aligned as after a call
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--sp = nullptr;
  f.sp = sp;
}

}  // namespace simt
