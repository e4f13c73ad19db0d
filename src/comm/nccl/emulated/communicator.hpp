// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>

#include <nccl.h>

#include "core/shared_memory.hpp"

#include "comm/nccl/emulated/rendezvous.hpp"

namespace syncbn::comm::nccl::emulated {

/// The sums of a communicator, some of them on streams, which may outlive the communicator. Each
/// waits for the one before it, on whatever stream that is.
class Sums {
 public:
  explicit Sums(Rendezvous& ranks) : ranks_(ranks) {}

  /// Returns the number of a sum that is about to be put on a stream.
  std::uint64_t enqueue() { return enqueued_++; }
  /// Does a sum as soon as those before it are done. Does nothing once the rank has given up.
  void run(std::uint64_t number, std::span<const double> values, std::span<double> sum);
  /// Waits until all sums are done. Returns false if the rank gives up.
  bool wait() const;

 private:
  Rendezvous& ranks_;
  std::atomic<std::uint64_t> enqueued_{0};
  std::atomic<std::uint64_t> done_{0};
};

/// What the thread of a communicator and its sums on streams use.
struct Members {
  Members(SharedMemory memory, int rank, int size) : ranks(std::move(memory), rank, size) {}

  Rendezvous ranks;
  Sums sums{ranks};
};

/// A non-blocking communicator of NCCL's. What takes other ranks is done by a thread of its own,
/// and meanwhile its state is ncclInProgress.
class Communicator {
 public:
  /// `memory` has seats for all ranks.
  Communicator(SharedMemory memory, int rank, int size);
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  /// Waits for the thread, but not for sums on streams.
  ~Communicator();

  int rank() const { return members_->ranks.rank(); }
  ncclResult_t state() const { return stands_still_.load() ? ncclInProgress : state_.load(); }
  /// Makes `code` the state, unless the communicator has failed already.
  void fail(ncclResult_t code);
  /// Makes ncclInProgress the state from now on.
  void stand_still() { stands_still_ = true; }
  /// Ends what the thread and the streams wait for, now and later. Other ranks are not told.
  void give_up() { members_->ranks.give_up(); }

  // These return what NCCL's functions do, ncclInProgress while the thread is at work, and an error
  // if it is at work for an earlier call.

  /// Collective. Has the thread wait until all ranks have come, and call `then`.
  ncclResult_t meet(std::function<void()> then);
  /// Collective. Has the thread write the part's communicator to `part`: null without a color.
  ncclResult_t split(int color, int key, ncclComm_t* part);
  /// Puts a sum on the stream. On a default stream that does at once what is put on it, the thread
  /// does it. A captured sum takes its turn among the others whenever it is replayed.
  ncclResult_t all_reduce(std::span<const double> values, double* sum, cudaStream_t stream);
  /// Has the thread put a sum on the stream, which is not the default one.
  ncclResult_t all_reduce_later(std::span<const double> values, double* sum, cudaStream_t stream);
  /// Has the thread wait for the sums on streams.
  ncclResult_t finalize();

 private:
  using Work = std::function<ncclResult_t()>;

  /// Has the thread do `work`, whose result is the state then.
  ncclResult_t start(Work work);
  /// Returns ncclSuccess if a call can be made now.
  ncclResult_t ready() const;
  ncclResult_t make_part(int color, int key, ncclComm_t* part) const;
  /// Returns the sum that is the next to be enqueued, as work for a stream.
  std::function<void()> next_sum(std::span<const double> values, double* sum) const;

  std::shared_ptr<Members> members_;
  std::atomic<ncclResult_t> state_{ncclSuccess};
  std::atomic<bool> stands_still_{false};
  std::thread thread_;  ///< last, as it uses the members above
};

}  // namespace syncbn::comm::nccl::emulated

struct ncclComm final : syncbn::comm::nccl::emulated::Communicator {
  using Communicator::Communicator;
};
