// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl/emulated/rendezvous.hpp"

#include <algorithm>
#include <chrono>
#include <new>
#include <thread>
#include <utility>

namespace syncbn::comm::nccl::emulated {

Rendezvous::Rendezvous(SharedMemory memory, int rank, int size)
    : memory_(std::move(memory)), rank_(rank), size_(size) {}

Seat& Rendezvous::seat(int rank) const {
  return std::launder(reinterpret_cast<Seat*>(memory_.data()))[rank];
}

bool Rendezvous::wait_for(const std::function<bool()>& holds) const {
  constexpr int yielding_turns = 200;
  constexpr std::chrono::microseconds longest_nap(1000);

  std::chrono::microseconds nap(20);
  for (int turn = 0; !holds(); ++turn) {
    if (gave_up_.load()) {
      return false;
    }
    if (turn < yielding_turns) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(nap);
      nap = std::min(2 * nap, longest_nap);
    }
  }
  return true;
}

template <class Cell>
bool Rendezvous::all_posted(Lane<Cell> Seat::*lane, std::uint64_t turn) const {
  for (int rank = 0; rank < size_; ++rank) {
    const std::atomic<std::uint64_t>& posted = (seat(rank).*lane).posted;
    if (!wait_for([&] { return posted.load(std::memory_order_acquire) >= turn; })) {
      return false;
    }
  }
  return true;
}

bool Rendezvous::tell(const Notice& own, std::span<Notice> all) {
  Lane<Notice>& mine = seat(rank_).notices;
  const std::uint64_t turn = mine.posted.load(std::memory_order_relaxed) + 1;
  mine.cells[turn % 2] = own;
  mine.posted.store(turn, std::memory_order_release);
  if (!all_posted(&Seat::notices, turn)) {
    return false;
  }
  for (int rank = 0; rank < size_; ++rank) {
    all[static_cast<std::size_t>(rank)] = seat(rank).notices.cells[turn % 2];
  }
  return true;
}

bool Rendezvous::sum(std::span<const double> values, std::span<double> sum) {
  auto& mine = seat(rank_).values;
  while (!values.empty()) {
    const std::size_t count = std::min(values.size(), piece_length);
    const std::uint64_t turn = mine.posted.load(std::memory_order_relaxed) + 1;
    std::ranges::copy(values.first(count), mine.cells[turn % 2].begin());
    mine.posted.store(turn, std::memory_order_release);
    if (!all_posted(&Seat::values, turn)) {
      return false;
    }
    for (std::size_t i = 0; i < count; ++i) {
      sum[i] = seat(0).values.cells[turn % 2][i];
    }
    for (int rank = 1; rank < size_; ++rank) {
      const auto& theirs = seat(rank).values.cells[turn % 2];
      for (std::size_t i = 0; i < count; ++i) {
        sum[i] += theirs[i];
      }
    }
    values = values.subspan(count);
    sum = sum.subspan(count);
  }
  return true;
}

}  // namespace syncbn::comm::nccl::emulated
