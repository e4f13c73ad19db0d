// SPDX-License-Identifier: Apache-2.0

// A rank goes on with further blocks while another is slow, and none takes more of them than there
// is room for. The slow one waits until it has seen the other ahead, so no clock decides.

#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "bn/host/in_blocks.hpp"
#include "bn/operations.hpp"
#include "comm/group/access.hpp"

namespace syncbn::bn {
namespace {

constexpr std::int64_t blocks = 30;  // of one channel each
constexpr std::int64_t ahead = std::tuple_size_v<decltype(Workspace::messages)>;
constexpr double ranks = 2;

/// How many blocks a rank has summed, for the other to see.
using Progress = std::atomic<std::int64_t>;

const comm::Descriptor forward_of_bn1{
    .operation = &forward_operation(Given::x), .subject = "bn1", .count = blocks};

/// Block k's sums of rank r are 100 k + r and 0.
class RecordedPass : public Pass {
 public:
  RecordedPass(comm::Group& group, Workspace& working, std::set<std::int64_t> unsettled,
               Progress& summed)
      : Pass(group, forward_of_bn1, working), unsettled_(std::move(unsettled)), summed_(summed) {}

  void sum(const ChannelRange& channels) override {
    EXPECT_EQ(++summed_, channels.begin + 1) << "in the order of the blocks";
    EXPECT_LE(summed_ - static_cast<std::int64_t>(unpacked_.size()), ahead);
    sum_of(channels) = 100.0 * static_cast<double>(channels.begin) + group().rank();
  }
  bool is_settled(const ChannelRange& channels) const override {
    EXPECT_EQ(sum_of(channels), ranks * 100 * static_cast<double>(channels.begin) + 1);
    unpacked_.insert(channels.begin);
    EXPECT_EQ(*unpacked_.rbegin(), static_cast<std::int64_t>(unpacked_.size()) - 1);
    return !unsettled_.contains(channels.begin);
  }
  void settle(const ChannelRange& channels) override {
    std::vector<double> again = {static_cast<double>(channels.begin)};
    group().exchange(
        {.operation = &second_sums_operation(), .subject = "bn1", .count = channels.begin}, again);
    EXPECT_EQ(again[0], ranks * static_cast<double>(channels.begin));
    unsettled_.erase(channels.begin);
  }
  void use(const ChannelRange& channels) override {
    EXPECT_TRUE(is_settled(channels));
    used_.push_back(channels.begin);
  }

  const std::vector<std::int64_t>& used() const { return used_; }

 private:
  ExactSums* exact() override { return nullptr; }
  double& sum_of(const ChannelRange& channels) const {
    return working().sums[static_cast<std::size_t>(channels.begin)];
  }

  std::set<std::int64_t> unsettled_;
  Progress& summed_;
  mutable std::set<std::int64_t> unpacked_;
  std::vector<std::int64_t> used_;
};

/// Takes the sums of block 1 when the other rank has gone as far ahead as it can.
class SlowPass final : public RecordedPass {
 public:
  SlowPass(comm::Group& group, Workspace& working, std::set<std::int64_t> unsettled, Progress& own,
           const Progress& other)
      : RecordedPass(group, working, std::move(unsettled), own), other_(other) {}

  void sum(const ChannelRange& channels) override {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (channels.begin == 1 && other_ < 1 + ahead) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "the other has summed " << other_;
      std::this_thread::yield();
    }
    RecordedPass::sum(channels);
  }

 private:
  const Progress& other_;
};

/// The blocks in the order in which each of two ranks, the second of them slow, has used them.
std::vector<std::vector<std::int64_t>> used_by_two_ranks(const std::set<std::int64_t>& unsettled) {
  const std::vector<Communicator> group =
      Communicator::threads(2, std::chrono::milliseconds(std::chrono::seconds(120)));
  Progress quick{0}, slow{0};
  Workspace quick_memory, slow_memory;
  RecordedPass quick_pass(comm::Access::group(group[0]), quick_memory, unsettled, quick);
  SlowPass slow_pass(comm::Access::group(group[1]), slow_memory, unsettled, slow, quick);
  const auto take = [](Pass& pass) {
    try {
      EXPECT_EQ(in_blocks(pass, blocks, pass.group().rank()), 0.5);
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
  };
  std::thread other([&] { take(slow_pass); });
  take(quick_pass);
  other.join();
  return {quick_pass.used(), slow_pass.used()};
}

TEST(RunAhead, ARankGoesOnWhileAnotherIsSlow) {
  std::vector<std::int64_t> all;
  for (std::int64_t k = 0; k < blocks; ++k) {
    all.push_back(k);
  }
  for (const std::vector<std::int64_t>& used : used_by_two_ranks({})) {
    EXPECT_EQ(used, all);
  }
}

TEST(RunAhead, SumsAreTakenAgainInOneOrderHoweverFarRanksAre) {
  std::vector<std::int64_t> all;
  for (std::int64_t k = 0; k < blocks; ++k) {
    if (k != 0 && k != 1 && k != 20) {
      all.push_back(k);
    }
  }
  all.insert(all.end(), {0, 1, 20});
  for (const std::vector<std::int64_t>& used : used_by_two_ranks({0, 1, 20})) {
    EXPECT_EQ(used, all);
  }
}

}  // namespace
}  // namespace syncbn::bn
