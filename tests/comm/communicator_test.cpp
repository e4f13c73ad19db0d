// SPDX-License-Identifier: Apache-2.0
#include "syncbn/communicator.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <span>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

TEST(Communicator, SelfIsAGroupOfOne) {
  const Communicator self = Communicator::self();
  std::vector<double> data = {1, 2};
  self.all_reduce(data);
  EXPECT_EQ(data, (std::vector<double>{1, 2}));
  EXPECT_EQ(self.size(), 1);
  EXPECT_EQ(self.split(3).size(), 1);
  EXPECT_EQ(self.counters().exchanges, 0);
}

TEST(Communicator, AllReduceSumsOverRanks) {
  test::on_ranks([](const Communicator& group) {
    const double ranks = group.size();
    for (const std::size_t length : {0, 1, 2, 129, 4097, 2}) {
      std::vector<double> data(length);
      for (std::size_t i = 0; i < length; ++i) {
        data[i] = static_cast<double>(i) + group.rank();
      }
      group.all_reduce(data);
      for (std::size_t i = 0; i < length; ++i) {
        ASSERT_EQ(data[i], ranks * static_cast<double>(i) + ranks * (ranks - 1) / 2);
      }
    }
  });
}

TEST(Communicator, AllRanksGetTheSameBits) {
  test::on_ranks([](const Communicator& group) {
    std::vector<double> data(1000);
    for (std::size_t i = 0; i < data.size(); ++i) {
      data[i] = std::sin(static_cast<double>(i + 1) * (group.rank() + 1)) * std::exp(group.rank());
    }
    group.all_reduce(data);
    const std::vector<double> all = group.all_gather(data);
    for (std::size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(all[i], data[i % data.size()]);
    }
  });
}

TEST(Communicator, InfinityAndNaNTravel) {
  test::on_ranks([](const Communicator& group) {
    std::vector<double> data = {group.rank() == 0 ? HUGE_VAL : 1.0,
                                group.rank() == 0 ? std::nan("") : 1.0, 1.0};
    group.all_reduce(data);
    EXPECT_TRUE(std::isinf(data[0]));
    EXPECT_TRUE(std::isnan(data[1]));
    EXPECT_EQ(data[2], group.size());
  });
}

TEST(Communicator, AllGatherKeepsTheSignOfZero) {
  test::on_ranks([](const Communicator& group) {
    const std::vector<double> all = group.all_gather(std::vector<double>{-0.0, 0.0, 1.0});
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(all[i], i % 3 == 2 ? 1.0 : 0.0);
      EXPECT_EQ(std::signbit(all[i]), i % 3 == 0) << "value " << i;
    }
  });
}

TEST(Communicator, SumsOfDifferentNaNsHaveTheSameBits) {
  test::on_ranks([](const Communicator& group) {
    const double sign = group.rank() % 2 == 0 ? 1.0 : -1.0;
    std::vector<double> memory(132, std::copysign(std::nan(""), sign));
    const std::span data =
        std::span(memory).subspan(static_cast<std::size_t>(group.rank() % 2), 131);
    group.all_reduce(data);
    std::vector<double> signs(data.size());
    std::ranges::transform(data, signs.begin(), [](double sum) { return std::signbit(sum); });
    const std::vector<double> own = signs;
    group.all_reduce(signs);
    for (std::size_t i = 0; i < signs.size(); ++i) {
      ASSERT_EQ(signs[i], group.size() * own[i]);
    }
  });
}

TEST(Communicator, SplitMakesGroupsByColorInRankOrder) {
  test::on_ranks([](const Communicator& group) {
    const int color = group.rank() % 2;
    const Communicator half = group.split(color);
    EXPECT_EQ(half.size(), (group.size() + 1 - color) / 2);
    EXPECT_EQ(half.rank(), group.rank() / 2);
    std::vector<double> ranks = {static_cast<double>(group.rank())};
    half.all_reduce(ranks);
    double expected = 0;
    for (int rank = color; rank < group.size(); rank += 2) {
      expected += rank;
    }
    EXPECT_EQ(ranks[0], expected);

    const Communicator again = group.split(0);
    EXPECT_EQ(again.size(), group.size());
    EXPECT_EQ(again.rank(), group.rank());
  });
}

TEST(Communicator, SplitTakesAnyColor) {
  test::on_ranks([](const Communicator& group) {
    const Communicator half = group.split(group.rank() % 2 == 0 ? -32766 : 1 << 30);
    EXPECT_EQ(half.rank(), group.rank() / 2);
    std::vector<double> one = {1};
    half.all_reduce(one);
    EXPECT_EQ(one[0], half.size());
  });
}

TEST(Communicator, ManyLengths) {
  test::on_ranks([](const Communicator& group) {
    for (const int round : {1, 2}) {
      for (std::size_t length = 0; length < 300; ++length) {
        std::vector<double> data(length, round);
        group.all_reduce(data);
        ASSERT_TRUE(length == 0 || data.back() == round * group.size());
      }
    }
  });
}

TEST(Communicator, GatherAndReduceOfTheSameLengthAreToldApart) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    std::vector<double> data(static_cast<std::size_t>(group.size()), 1.0);
    if (group.rank() == 0) {
      EXPECT_THROW(group.all_gather(std::span(data).first(1)), CommError);
    } else {
      EXPECT_THROW(group.all_reduce(data), CommError);
    }
  });
}

TEST(Communicator, SumsUnderWayAreFinishedInAnyOrder) {
  test::on_ranks([](const Communicator& group) {
    constexpr std::size_t sums = 24;  // more than are held at once, of which some in pieces
    std::vector<std::vector<double>> data;
    std::vector<PendingSum> pending;
    data.reserve(sums);
    for (std::size_t i = 0; i < sums; ++i) {
      data.emplace_back(i % 5 == 0 ? 10'000 + i : 7 * i, static_cast<double>(i));
      pending.push_back(group.start(data.back()));
    }
    for (std::size_t k = 0; k < sums; ++k) {
      const std::size_t i = 5 * k % sums;  // 0, 5, 10, ...: each once
      group.finish(pending[i]);
      for (const double value : data[i]) {
        ASSERT_EQ(value, static_cast<double>(i) * group.size());
      }
    }
    std::vector<double> after = {1};
    group.all_reduce(after);
    EXPECT_EQ(after[0], group.size());
  });
}

TEST(Communicator, TellsWithoutWaitingWhetherASumHasArrived) {
  test::on_ranks([](const Communicator& whole) {
    const Communicator beside = whole.split(0);
    comm::Group& group = comm::Access::group(whole);
    const auto meet = [&] {
      std::vector<double> one = {1};
      beside.all_reduce(one);
    };
    const comm::Descriptor what{.subject = "apples", .count = 1};
    const bool last = whole.rank() == whole.size() - 1;
    std::vector<double> first = {1}, second = {2}, before = {0};
    group.exchange(what, before);  // that of a new length may wait in `start`
    if (last) {                    // the others ask before it comes
      meet();
    }
    PendingSum one = group.start(what, first);
    PendingSum two = group.start(what, second);
    if (!last) {
      EXPECT_FALSE(group.arrived(what, one));
      EXPECT_FALSE(group.arrived(what, two));
      meet();
    }
    const auto deadline = std::chrono::steady_clock::now() + test::patience;
    while (!group.arrived(what, one) || !group.arrived(what, two)) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    }
    group.finish(what, two);
    group.finish(what, one);
    EXPECT_EQ(first[0], whole.size());
    EXPECT_EQ(second[0], 2 * whole.size());
  });
}

TEST(Communicator, OnlyWhatIsUnderWayCanBeFinished) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const Communicator other = group.split(0);
    std::vector<double> data = {1, 2};
    const PendingSum sum = group.start(data);
    EXPECT_THROW(other.finish(sum), InvalidArgument);
    EXPECT_THROW(group.finish(PendingSum()), InvalidArgument);
    group.finish(sum);
    EXPECT_EQ(data[1], 2 * group.size());
    EXPECT_THROW(group.finish(sum), InvalidArgument);
    group.all_reduce(data);  // and nothing is broken
    EXPECT_EQ(data[0], group.size() * group.size());
  });
}

TEST(Communicator, SplitBySamplesMakesGroupsLargeEnough) {
  test::on_ranks([](const Communicator& group) {
    const Communicator pairs = group.split_by_samples(8, 16);
    const int whole_pairs = std::max(group.size() / 2, 1);
    const bool in_last = group.rank() / 2 >= whole_pairs - 1;
    EXPECT_EQ(pairs.size(), in_last ? group.size() - 2 * (whole_pairs - 1) : 2);

    EXPECT_EQ(group.split_by_samples(8, 1).size(), 1);
    EXPECT_EQ(group.split_by_samples(8, 1'000'000).size(), group.size());
    // An empty shard counts nothing: only rank 0 has any.
    EXPECT_EQ(group.split_by_samples(group.rank() == 0 ? 4 : 0, 4).size(), group.size());
    EXPECT_THROW(group.split_by_samples(8, 0), InvalidArgument);
    const std::int64_t most = std::numeric_limits<std::int64_t>::max();
    EXPECT_THROW(group.split_by_samples(8, most), InvalidArgument);
    EXPECT_THROW(group.split_by_samples(group.rank() == 0 ? most : 8, 8), InvalidArgument);
    EXPECT_THROW(group.split_by_samples(group.rank() == 0 ? -1 : 8, 8), InvalidArgument);
    if (group.size() > 1) {
      EXPECT_THROW(group.split_by_samples(8, 8 + group.rank()), InvalidArgument);
    }
  });
}

TEST(Communicator, AnAbandonedExchangeEndsTheOthersAtOnce) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    std::vector<double> data = {1};
    if (group.rank() == 0) {
      comm::Access::group(group).abandon("weight[3] is NaN");
    } else {
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_THAT(test::failure_of<CommError>([&] { group.all_reduce(data); }),
                  testing::HasSubstr("weight[3] is NaN"));
      EXPECT_LT(std::chrono::steady_clock::now() - begin, test::patience / 2);
    }
  });
}

TEST(Communicator, CountsWhatItDid) {
  test::on_ranks([](const Communicator& group) {
    std::vector<double> data(10);
    group.all_reduce(data);
    const Counters first = group.counters();
    group.all_reduce(data);
    const Counters second = group.counters();
    if (group.size() > 1) {
      EXPECT_EQ(first.exchanges, 1);
      EXPECT_EQ(second.exchanges, 2);
      EXPECT_EQ(second.bytes - first.bytes, 8 * 10);
      EXPECT_GT(second.seconds, first.seconds);
    }
  });
}

TEST(Communicator, CopiesShareTheGroup) {
  test::on_ranks([](const Communicator& group) {
    const Communicator copy = group;
    std::vector<double> data = {1};
    copy.all_reduce(data);
    group.all_reduce(data);
    EXPECT_EQ(data[0], group.size() * group.size());
    EXPECT_EQ(copy.counters().exchanges, group.counters().exchanges);
  });
}

}  // namespace
}  // namespace syncbn
