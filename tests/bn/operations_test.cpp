// SPDX-License-Identifier: Apache-2.0
//
// Ranks notice a disagreement on any of a layer's facts, and are told on which.

#include "bn/operations.hpp"

#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "bn/host/in_blocks.hpp"
#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn::bn {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::int64_t channels = 8;

comm::Descriptor pass_of(const comm::Operation& operation, const PassFacts& facts) {
  return {.operation = &operation,
          .subject = "bn1",
          .count = channels,
          .dtype = DType::f32,
          .facts = facts};
}

/// A pass whose sums are all 0.
class IdlePass final : public Pass {
 public:
  IdlePass(comm::Group& group, Workspace& working)
      : Pass(group, pass_of(forward_operation(Given::x), {}), working) {}

  void sum(const ChannelRange&) override {}
  bool is_settled(const ChannelRange&) const override { return true; }
  void settle(const ChannelRange&) override {}
  void use(const ChannelRange&) override {}

 private:
  ExactSums* exact() override { return nullptr; }
};

/// Calls body(group, odd) on several ranks; the last is the odd one.
template <class Body>
void on_groups(Body body) {
  test::on_ranks([&](const Communicator& group) {
    if (group.size() > 1) {
      body(group, group.rank() == group.size() - 1);
    }
  });
}

/// Returns what a rank is told when the odd one has other facts.
std::string failure_of(const Communicator& group, const comm::Operation& operation,
                       const PassFacts& facts) {
  std::vector<double> message(1);
  return test::failure_of<CommError>(
      [&] { comm::Access::group(group).exchange(pass_of(operation, facts), message); });
}

TEST(PassFacts, TheNumberOfBlocksIsComparedAndTold) {
  on_groups([](const Communicator& group, bool odd) {
    const auto failure_of_blocks = [&](std::int64_t usual, std::int64_t other) {
      const Communicator part = group.split(0);
      Workspace working;
      IdlePass pass(comm::Access::group(part), working);
      return test::failure_of<CommError>([&] { in_blocks(pass, odd ? other : usual, 0); });
    };
    EXPECT_EQ(failure_of_blocks(4, 4), "");
    const std::string last = "rank " + std::to_string(group.size() - 1) + ": exchange #1, ";
    EXPECT_THAT(failure_of_blocks(2, 4),
                AllOf(HasSubstr("forward of 'bn1' (C=8, f32), 2 blocks of channels\n"),
                      HasSubstr(last + "forward of 'bn1' (C=8, f32), 4 blocks of channels\n"),
                      HasSubstr("\nThe ranks cut the layer into different numbers of blocks"),
                      Not(HasSubstr("running mean"))));
    EXPECT_THAT(failure_of_blocks(1, 8),
                AllOf(HasSubstr(", 1 block of channels\n"), HasSubstr(", 8 blocks of channels\n")));
  });
}

TEST(PassFacts, EachOfAForwardIsComparedAndExplained) {
  on_groups([](const Communicator& group, bool odd) {
    const auto failure_with = [&](const PassFacts& other) {
      return failure_of(group.split(0), forward_operation(Given::x),
                        odd ? other : PassFacts{3, 5, 2, 7});
    };
    EXPECT_EQ(failure_with({3, 5, 2, 7}), "");
    EXPECT_THAT(failure_with({4, 5, 2, 7}),
                AllOf(HasSubstr(", after forward no. 3\n"), HasSubstr(", after forward no. 4\n"),
                      HasSubstr("different numbers of times")));
    EXPECT_THAT(failure_with({3, 6, 2, 7}),
                AllOf(HasSubstr(", gamma and beta no. 5\n"), HasSubstr(", gamma and beta no. 6\n"),
                      HasSubstr("gamma or beta differ")));
    EXPECT_THAT(failure_with({3, 5, 2, 8}),
                AllOf(HasSubstr(", running statistics no. 7\n"),
                      HasSubstr(", running statistics no. 8\n"), HasSubstr("running mean")));
  });
}

TEST(PassFacts, ABackwardTellsOfWhichForwardItIs) {
  on_groups([](const Communicator& group, bool odd) {
    EXPECT_THAT(failure_of(group, backward_operation(Given::x), {.forward = odd ? 2 : 1}),
                AllOf(HasSubstr("backward of 'bn1' (C=8, f32), of forward no. 1\n"),
                      HasSubstr("of forward no. 2\n"), HasSubstr("record of the same forward")));
  });
}

TEST(Operations, HaveTextsThatTellThemApart) {
  std::set<std::string> texts{std::string(second_sums_operation().text.view())};
  for (const Given given : {Given::x, Given::residual, Given::in_place}) {
    texts.emplace(forward_operation(given).text.view());
    texts.emplace(infer_operation(given).text.view());
    texts.emplace(backward_operation(given).text.view());
    EXPECT_EQ(has_residual(forward_operation(given)), given == Given::residual);
    EXPECT_EQ(has_residual(backward_operation(given)), given == Given::residual);
  }
  texts.emplace(backward_operation(Given::frozen).text.view());
  EXPECT_EQ(texts.size(), 1 + 3 * 3 + 1);
}

}  // namespace
}  // namespace syncbn::bn
