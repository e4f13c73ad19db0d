// SPDX-License-Identifier: Apache-2.0
#include "bn/host/in_blocks.hpp"

#include <array>
#include <exception>
#include <tuple>

#include "syncbn/phases.hpp"

#include "bn/host/block_plan.hpp"
#include "bn/operations.hpp"

namespace syncbn::bn {
namespace {

/// Takes a pass of several ranks, and counts the blocks that are posted and those that are used.
class InBlocks {
 public:
  InBlocks(Pass& pass, std::int64_t blocks)
      : pass_(pass),
        group_(pass.group()),
        what_(pass.what()),
        working_(pass.working()),
        channels_(what_.count),
        blocks_(blocks) {
    working_.sums.resize(sums_length(channels_));
    working_.unsettled.clear();
    what_.facts[Fact::blocks] = static_cast<std::uint64_t>(blocks);
  }

  /// Returns the sum of the votes.
  double take_all(double vote) {
    while (posted_ < blocks_) {
      post(vote);
      while (used_ < posted_ && (posted_ == 1 || is_full() || has_arrived())) {
        use();
      }
    }
    while (used_ < blocks_) {
      use();
    }
    for (const std::int64_t k : working_.unsettled) {
      pass_.settle_and_use(block(channels_, blocks_, k));
    }
    return votes_;
  }

 private:
  static constexpr std::size_t most_under_way = std::tuple_size_v<decltype(Workspace::messages)>;

  static std::size_t place(std::int64_t k) { return static_cast<std::size_t>(k) % most_under_way; }

  bool is_full() const { return posted_ - used_ == static_cast<std::int64_t>(most_under_way); }
  bool has_arrived() { return group_.arrived(what_, started_[place(used_)]); }

  void post(double vote) {
    const std::int64_t k = posted_++;
    const ChannelRange now = block(channels_, blocks_, k);
    pass_.sum(now);
    pass_.pack(now, vote, working_.messages[place(k)]);
    started_[place(k)] = group_.start(what_, working_.messages[place(k)]);
  }

  void use() {
    const std::int64_t k = used_++;
    const ChannelRange then = block(channels_, blocks_, k);
    group_.finish(what_, started_[place(k)]);
    votes_ = pass_.unpack(then, working_.messages[place(k)]);
    if (pass_.is_settled(then)) {
      pass_.use(then);
    } else {
      working_.unsettled.push_back(k);
    }
  }

  Pass& pass_;
  comm::Group& group_;
  comm::Descriptor what_;
  Workspace& working_;
  std::int64_t channels_, blocks_;
  std::array<PendingSum, most_under_way> started_;
  std::int64_t posted_ = 0, used_ = 0;  ///< blocks
  double votes_ = 0;
};

}  // namespace

void in_blocks_here(Pass& pass, std::int64_t blocks) {
  const std::int64_t channels = pass.what().count;
  pass.working().sums.resize(sums_length(channels));
  for (std::int64_t k = 0; k < blocks; ++k) {
    const ChannelRange now = block(channels, blocks, k);
    pass.sum(now);
    pass.keep(now);
    pass.settle_and_use(now);
  }
}

double in_blocks(Pass& pass, std::int64_t blocks, double vote) {
  if (pass.group().size() == 1) {
    in_blocks_here(pass, blocks);
    return vote;
  }
  try {
    return InBlocks(pass, blocks).take_all(vote) / pass.group().size();
  } catch (const std::exception& error) {
    pass.group().abandon(error.what());
    throw;
  }
}

}  // namespace syncbn::bn
