// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/emulated/communicator.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "syncbn/error.hpp"

#include "comm/nccl/emulated/failures.hpp"
#include "cuda/capture.hpp"
#include "cuda/device.hpp"
#include "cuda/emulated.hpp"

namespace syncbn::comm::nccl::emulated {

void Sums::run(std::uint64_t number, std::span<const double> values, std::span<double> sum) {
  const auto is_next = [&] { return done_.load() == number; };
  if (ranks_.wait_for(is_next) && ranks_.sum(values, sum)) {
    done_ = number + 1;
  }
}

bool Sums::wait() const {
  return ranks_.wait_for([&] { return done_.load() == enqueued_.load(); });
}

namespace {

constexpr ncclResult_t aborted = ncclInternalError;  // of a call that has no caller any more

Notice notice(int color, int key, const std::string& address) {
  Notice made{.color = color, .key = key, .address = {}};
  if (address.size() >= made.address.size()) {
    throw CommError("an address that is too long: " + address);
  }
  std::ranges::copy(address, made.address.begin());
  return made;
}

/// Returns the ranks with this color, by their keys.
std::vector<int> ranks_of(int color, const std::vector<Notice>& all) {
  std::vector<int> ranks;
  for (int rank = 0; rank < static_cast<int>(all.size()); ++rank) {
    if (all[static_cast<std::size_t>(rank)].color == color) {
      ranks.push_back(rank);
    }
  }
  std::ranges::stable_sort(ranks, {},
                           [&](int rank) { return all[static_cast<std::size_t>(rank)].key; });
  return ranks;
}

}  // namespace

Communicator::Communicator(SharedMemory memory, int rank, int size)
    : members_(std::make_shared<Members>(std::move(memory), rank, size)) {}

Communicator::~Communicator() {
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Communicator::fail(ncclResult_t code) {
  ncclResult_t before = state_.load();
  while ((before == ncclSuccess || before == ncclInProgress) &&
         !state_.compare_exchange_weak(before, code)) {
  }
}

ncclResult_t Communicator::ready() const {
  const ncclResult_t now = state_.load();
  return now != ncclInProgress
             ? now
             : failed(ncclInvalidArgument,
                      "a call to a communicator that is busy with the one before");
}

ncclResult_t Communicator::start(Work work) {
  if (const ncclResult_t code = ready(); code != ncclSuccess) {
    return code;
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  state_ = ncclInProgress;
  try {
    thread_ = std::thread([this, work = std::move(work)] {
      ncclResult_t code = ncclSuccess;
      try {
        code = work();
      } catch (const CommError& error) {
        code = failed(ncclSystemError, error.what());
      }
      ncclResult_t busy = ncclInProgress;
      state_.compare_exchange_strong(busy, code);
    });
  } catch (const std::system_error& error) {
    state_ = failed(ncclSystemError, error.what());
  }
  return state_;
}

ncclResult_t Communicator::meet(std::function<void()> then) {
  return start([this, then = std::move(then)] {
    std::vector<Notice> all(static_cast<std::size_t>(members_->ranks.size()));
    const bool all_came = members_->ranks.tell({}, all);
    then();
    return all_came ? ncclSuccess : aborted;
  });
}

ncclResult_t Communicator::split(int color, int key, ncclComm_t* part) {
  return start([this, color, key, part] { return make_part(color, key, part); });
}

// The part's first rank makes its memory, tells where it is, and hides it when all have opened it.
ncclResult_t Communicator::make_part(int color, int key, ncclComm_t* part) const {
  Rendezvous& ranks = members_->ranks;
  std::vector<Notice> all(static_cast<std::size_t>(ranks.size()));
  if (!ranks.tell(notice(color, key, ""), all)) {
    return aborted;
  }
  const std::vector<int> members = ranks_of(color, all);
  const int leader = members.front();
  std::optional<SharedMemory> memory;
  if (color != NCCL_SPLIT_NOCOLOR && rank() == leader) {
    memory.emplace(SharedMemory::create(Rendezvous::bytes_for(members.size())));
  }
  if (!ranks.tell(notice(color, key, memory ? memory->address() : ""), all)) {
    return aborted;
  }
  if (color != NCCL_SPLIT_NOCOLOR && rank() != leader) {
    memory.emplace(SharedMemory::open(all[static_cast<std::size_t>(leader)].address.data()));
  }
  if (!ranks.tell({}, all)) {
    return aborted;
  }
  *part = nullptr;
  if (memory) {
    memory->hide();
    const auto place = std::ranges::find(members, rank()) - members.begin();
    *part =
        new ncclComm(std::move(*memory), static_cast<int>(place), static_cast<int>(members.size()));
  }
  return ncclSuccess;
}

std::function<void()> Communicator::next_sum(std::span<const double> values, double* sum) const {
  return [members = members_, number = members_->sums.enqueue(), values,
          to = std::span(sum, values.size())] { members->sums.run(number, values, to); };
}

ncclResult_t Communicator::all_reduce(std::span<const double> values, double* sum,
                                      cudaStream_t stream) {
  if (const ncclResult_t code = ready(); code != ncclSuccess) {
    return code;
  }
  if (syncbn::cuda::is_capturing(stream)) {  // each replay is a sum of its own
    syncbn::cuda::put_on(stream, [members = members_, values, to = std::span(sum, values.size())] {
      members->sums.run(members->sums.enqueue(), values, to);
    });
    return ncclSuccess;
  }
  const auto work = next_sum(values, sum);
  if (!syncbn::cuda::does_at_once(stream)) {
    syncbn::cuda::put_on(stream, work);
    return ncclSuccess;
  }
  return start([work] {
    syncbn::cuda::put_on(nullptr, work);
    return ncclSuccess;
  });
}

ncclResult_t Communicator::all_reduce_later(std::span<const double> values, double* sum,
                                            cudaStream_t stream) {
  return start([this, values, sum, stream, device = syncbn::cuda::current_device()] {
    constexpr std::chrono::milliseconds later(20);
    std::this_thread::sleep_for(later);
    const syncbn::cuda::OnDevice on_device(device);
    syncbn::cuda::put_on(stream, next_sum(values, sum));
    return ncclSuccess;
  });
}

ncclResult_t Communicator::finalize() {
  return start([this] { return members_->sums.wait() ? ncclSuccess : aborted; });
}

}  // namespace syncbn::comm::nccl::emulated
