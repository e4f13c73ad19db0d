// SPDX-License-Identifier: Apache-2.0
//
// MPI_Iallreduce, polled, on duplicates of the user's communicator.
//
// Non-blocking, because MPI has no other way to give up waiting. One duplicate for each message
// length, because MPI does not check that lengths agree: with Open MPI 4.1 ranks of different
// lengths get MPI_SUCCESS with wrong numbers, or a broken heap. Kept apart, such ranks wait for
// each other and end at the deadline, each saying what it was doing. Messages are staged in memory
// of ours, which outlives an abandoned request.

#include "comm/transport.hpp"

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <mpi.h>

#include "syncbn/error.hpp"
#include "syncbn/mpi.hpp"

#include "comm/fingerprint.hpp"
#include "comm/group.hpp"

namespace syncbn {
namespace comm {
namespace {

void check(int code, const char* doing) {
  if (code == MPI_SUCCESS) {
    return;
  }
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw CommError(std::string(doing) + " failed (" + std::string(text, std::size_t(length)) + ")");
}

/// A communicator of ours, freed with its owner unless MPI is finalized by then.
class OwnedComm {
 public:
  explicit OwnedComm(MPI_Comm comm) : comm_(comm) {}
  OwnedComm(OwnedComm&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  OwnedComm& operator=(OwnedComm&&) = delete;
  ~OwnedComm() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (comm_ != MPI_COMM_NULL && finalized == 0) {
      MPI_Comm_free(&comm_);
    }
  }
  MPI_Comm get() const { return comm_; }
  /// Leaves the communicator to MPI: a collective on it never finished.
  void abandon() { comm_ = MPI_COMM_NULL; }

 private:
  MPI_Comm comm_;
};

/// Whether the request is done by the deadline. If not, MPI keeps it, and the memory it works on.
bool finished(MPI_Request& request, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  constexpr int polls_between_yields = 256;
  for (int polls = 1;; ++polls) {
    int done = 0;
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "a collective");
    if (done != 0) {
      return true;
    }
    if (polls % polls_between_yields == 0) {
      if (std::chrono::steady_clock::now() > deadline) {
        return false;
      }
      sched_yield();
    }
  }
}

[[noreturn]] void throw_too_late(std::chrono::milliseconds timeout) {
  throw CommError("not all ranks came within " + in_seconds(timeout) +
                  " (one is stuck, has ended, or is in another exchange; see what the others "
                  "report)");
}

OwnedComm duplicate(MPI_Comm comm, std::chrono::milliseconds timeout) {
  auto copy = std::make_unique<MPI_Comm>(MPI_COMM_NULL);
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Comm_idup(comm, copy.get(), &request), "MPI_Comm_idup");
  if (!finished(request, timeout)) {
    static_cast<void>(copy.release());  // MPI may still write there
    throw_too_late(timeout);
  }
  OwnedComm owned(*copy);
  check(MPI_Comm_set_errhandler(owned.get(), MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return owned;
}

class MpiTransport final : public Transport {
 public:
  MpiTransport(OwnedComm comm, std::chrono::milliseconds timeout)
      : base_(std::move(comm)), timeout_(timeout) {
    check(MPI_Comm_rank(base_.get(), &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(base_.get(), &size_), "MPI_Comm_size");
    comm_for(fingerprint_words);  // of the messages that come before a new length
  }

  MpiTransport(const MpiTransport&) = delete;
  MpiTransport& operator=(const MpiTransport&) = delete;
  ~MpiTransport() override {
    if (in_flight_.any()) {  // a pass ended early
      give_up();
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::size_t start(std::span<const double> message) override {
    if (message.size() > INT_MAX) {
      throw InvalidArgument(std::to_string(message.size()) +
                            " values in one message (MPI counts to 2^31 - 1). Send it in pieces.");
    }
    const OwnedComm& comm = comm_for(message.size());
    const std::size_t place = in_flight_.take();
    Message& sent = in_flight_[place];
    sent.staging.assign(message.begin(), message.end());
    check(MPI_Iallreduce(MPI_IN_PLACE, sent.staging.data(), static_cast<int>(message.size()),
                         MPI_DOUBLE, MPI_SUM, comm.get(), &sent.request),
          "MPI_Iallreduce");
    return place;
  }

  void finish(std::size_t started, std::span<double> sum) override {
    Message& sent = in_flight_[started];
    if (!finished(sent.request, timeout_)) {
      give_up();
      throw_too_late(timeout_);
    }
    std::ranges::copy(sent.staging, sum.begin());
    in_flight_.release(started);
  }

  std::unique_ptr<Transport> split(std::span<const int> colors) override {
    // MPI takes no negative colors, and one that means none: give it the color's place among all.
    const std::set<int> distinct(colors.begin(), colors.end());
    const auto place =
        std::distance(distinct.begin(), distinct.find(colors[static_cast<std::size_t>(rank_)]));
    // Blocking, but every rank is here: they have just exchanged the colors.
    MPI_Comm part = MPI_COMM_NULL;
    check(MPI_Comm_split(base_.get(), static_cast<int>(place), rank_, &part), "MPI_Comm_split");
    OwnedComm owned(part);
    check(MPI_Comm_set_errhandler(part, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    return std::make_unique<MpiTransport>(std::move(owned), timeout_);
  }

 private:
  // Made at a length's first message, for which Group has just compared what the ranks will send.
  // MPI has communicators for some thousand lengths; the longest unused one makes room, the same on
  // every rank.
  OwnedComm& comm_for(std::size_t length) {
    auto known = by_length_.find(length);
    if (known == by_length_.end()) {
      if (by_length_.size() == max_lengths) {
        by_length_.erase(std::ranges::min_element(
            by_length_, {}, [](const auto& entry) { return entry.second.last_use; }));
      }
      known = by_length_.emplace(length, Channel{duplicate(base_.get(), timeout_), 0}).first;
    }
    known->second.last_use = ++uses_;
    return known->second.comm;
  }

  // Leaves to MPI what it may still be working with: no rank has anything to do with these
  // communicators and messages any more.
  void give_up() {
    for (auto& [length, channel] : by_length_) {
      channel.comm.abandon();
    }
    new InFlight<Message>(std::exchange(in_flight_, {}));
  }

  struct Message {
    std::vector<double> staging;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  static constexpr std::size_t max_lengths = 256;
  struct Channel {
    OwnedComm comm;
    std::int64_t last_use;
  };

  OwnedComm base_;
  std::map<std::size_t, Channel> by_length_;
  std::int64_t uses_ = 0;
  InFlight<Message> in_flight_;
  std::chrono::milliseconds timeout_;
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace
}  // namespace comm

Communicator mpi_communicator(MPI_Comm comm, std::chrono::milliseconds timeout) {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (initialized == 0 || finalized != 0) {
    throw NotConfigured("mpi_communicator before MPI_Init or after MPI_Finalize.");
  }
  int between_groups = 0;
  if (comm == MPI_COMM_NULL || (MPI_Comm_test_inter(comm, &between_groups), between_groups != 0)) {
    throw InvalidArgument("mpi_communicator of MPI_COMM_NULL or of an intercommunicator.");
  }
  timeout = comm::validated(timeout);
  return Communicator(std::make_shared<comm::Group>(
      std::make_unique<comm::MpiTransport>(comm::duplicate(comm, timeout), timeout)));
}

}  // namespace syncbn
