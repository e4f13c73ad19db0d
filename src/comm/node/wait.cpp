// SPDX-License-Identifier: Apache-2.0
#include "comm/node/wait.hpp"

#include <climits>
#include <ctime>
#include <sched.h>
#include <unistd.h>

#include <linux/futex.h>
#include <sys/syscall.h>

namespace syncbn::comm::node {
namespace {

// A turn of spinning takes some 50 ns, one of yielding 0.5 us if no other thread wants to run. So
// Patience spins for 10 us, then yields for up to a few hundred, and then sleeps; a sleeper is
// woken within some 5 to 50 us.
constexpr int spinning_turns = 200;
constexpr int yielding_turns = 1000;
constexpr int turns_between_looks = 64;
constexpr std::chrono::milliseconds longest_sleep(1);

void relax() {
  for (int i = 0; i < 8; ++i) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
}

std::uint32_t* address(Word& word) {
  static_assert(sizeof(Word) == sizeof(std::uint32_t) && Word::is_always_lock_free);
  return reinterpret_cast<std::uint32_t*>(&word);
}

}  // namespace

void Signal::wake() {
  syscall(SYS_futex, address(word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Signal::sleep(std::uint32_t seen, std::chrono::microseconds at_most, Word& sleepers) {
  const timespec time{at_most.count() / 1'000'000, at_most.count() % 1'000'000 * 1000};
  sleepers.fetch_add(1);
  if (word.load() == seen) {
    syscall(SYS_futex, address(word), FUTEX_WAIT, seen, &time, nullptr, 0);
  }
  sleepers.fetch_sub(1);
}

bool Patience::spin_or_yield() {
  ++turns_;
  if (turns_ < spinning_turns && !yields_) {
    relax();
  } else {
    sched_yield();
  }
  return turns_ % turns_between_looks == 0;
}

bool Patience::turn(Signal& signal, std::uint32_t seen, Word& sleepers) {
  if (turns_ < yielding_turns) {
    return spin_or_yield();
  }
  signal.sleep(seen, longest_sleep, sleepers);
  return true;
}

bool Patience::turn() {
  return spin_or_yield();
}

}  // namespace syncbn::comm::node
