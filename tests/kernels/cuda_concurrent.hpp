// SPDX-License-Identifier: Apache-2.0
#pragma once

// The kernels for CUDA devices on the host, threads at once: as on a device, and unlike OnHost,
// each thread of a block is a thread of its own, which waits for the others at the end of a phase,
// and two blocks run at a time, in random order. Under the thread sanitizer, that shows a missing
// phase, an operation on common words that is not atomic, and blocks that depend on each other's
// order.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <pthread.h>
#include <random>
#include <thread>
#include <vector>

namespace syncbn::test {

/// A barrier that orders nothing but the threads which meet there. All of libstdc++'s std::barrier
/// share a table of those that wait, by which the thread sanitizer takes what one team of threads
/// has done as done before what another does.
class Barrier {
 public:
  explicit Barrier(unsigned threads) { pthread_barrier_init(&barrier_, nullptr, threads); }
  ~Barrier() { pthread_barrier_destroy(&barrier_); }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  void arrive_and_wait() { pthread_barrier_wait(&barrier_); }

 private:
  pthread_barrier_t barrier_;
};

/// Is the block of the calling thread.
class ConcurrentBlock {
 public:
  ConcurrentBlock(std::int64_t index, int thread, Barrier& end_of_phase, std::minstd_rand& random)
      : index_(index), thread_(thread), end_of_phase_(end_of_phase), random_(random) {}

  std::int64_t index() const { return index_; }

  template <class Body>
  void every_thread(Body body) const {
    if (random_() % 4 == 0) {
      std::this_thread::yield();
    }
    body(thread_);
    end_of_phase_.arrive_and_wait();
  }

 private:
  std::int64_t index_;
  int thread_;
  Barrier& end_of_phase_;
  std::minstd_rand& random_;
};

/// Runs a kernel and waits for it.
struct ConcurrentHost {
  std::uint32_t seed;

  template <class Kernel>
  void operator()(std::int64_t blocks, const Kernel& kernel, const char*) const {
    std::vector<std::int64_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::minstd_rand(seed));
    constexpr int teams = 2;
    std::atomic<std::size_t> next{teams};
    std::vector<std::unique_ptr<Team<Kernel>>> of_blocks;
    std::vector<std::jthread> all;
    for (int team = 0; team < teams; ++team) {
      of_blocks.push_back(std::make_unique<Team<Kernel>>());
      of_blocks.back()->block = static_cast<std::size_t>(team);
      for (int thread = 0; thread < Kernel::threads; ++thread) {
        const auto of_thread = static_cast<std::uint32_t>(team * Kernel::threads + thread);
        all.emplace_back([&, thread, &mine = *of_blocks.back(), of_thread] {
          mine.run(thread, kernel, order, next, std::minstd_rand(seed + 1 + of_thread));
        });
      }
    }
  }

 private:
  /// The threads that take blocks together, one block after the other. The first one is given, so
  /// that each team has one, and nothing orders it before another team's.
  template <class Kernel>
  struct Team {
    Barrier end_of_phase{Kernel::threads};
    std::size_t block;  ///< its place in the order
    alignas(typename Kernel::Shared) std::byte shared[sizeof(typename Kernel::Shared)];

    void run(int thread, const Kernel& kernel, const std::vector<std::int64_t>& order,
             std::atomic<std::size_t>& next, std::minstd_rand random) {
      for (bool first = true;; first = false) {
        if (thread == 0) {
          if (!first) {
            block = next++;
          }
          std::memset(shared, 0xff, sizeof shared);  // NaNs: nobody has written it
        }
        end_of_phase.arrive_and_wait();
        if (block >= order.size()) {
          return;
        }
        kernel(ConcurrentBlock(order[block], thread, end_of_phase, random),
               *reinterpret_cast<typename Kernel::Shared*>(shared));
        end_of_phase.arrive_and_wait();
      }
    }
  };
};

}  // namespace syncbn::test
