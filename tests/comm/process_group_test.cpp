// SPDX-License-Identifier: Apache-2.0
//
// Groups that sum through shared memory, which another communicator has set up: of threads, or of
// processes under mpirun, whose MPI they do not use.

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/on_ranks.hpp"

namespace syncbn {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

TEST(ProcessGroup, SumsInRankOrderWhateverTheLength) {
  test::on_ranks([](const Communicator& ranks) {
    const Communicator group = Communicator::processes(ranks, test::patience);
    ASSERT_EQ(group.rank(), ranks.rank());
    ASSERT_EQ(group.size(), ranks.size());
    for (const std::size_t length : {0, 1, 7, 5000, 200000}) {
      std::vector<double> values(length);
      std::vector<double> expected(length);
      for (std::size_t i = 0; i < length; ++i) {
        const auto of = [i](int rank) { return std::sin(static_cast<double>(i) + 1.1 * rank); };
        values[i] = of(group.rank());
        expected[i] = of(0);
        for (int rank = 1; rank < group.size(); ++rank) {
          expected[i] += of(rank);
        }
      }
      group.all_reduce(values);
      EXPECT_EQ(values, expected) << length;
    }
  });
}

TEST(ProcessGroup, GathersByRank) {
  test::on_ranks([](const Communicator& ranks) {
    const Communicator group = Communicator::processes(ranks, test::patience);
    const std::array<double, 2> own = {1.0 * group.rank(), 0.5};
    const std::vector<double> all = group.all_gather(own);
    ASSERT_EQ(all.size(), 2 * static_cast<std::size_t>(group.size()));
    for (int rank = 0; rank < group.size(); ++rank) {
      EXPECT_EQ(all[2 * static_cast<std::size_t>(rank)], rank);
    }
  });
}

TEST(ProcessGroup, IsApartFromOthersOfTheSameRanks) {
  test::on_ranks([](const Communicator& ranks) {
    const Communicator one = Communicator::processes(ranks, test::patience);
    const Communicator two = Communicator::processes(one, test::patience);
    double a = 1, b = 10;
    PendingSum pending = one.start({&a, 1});
    two.all_reduce({&b, 1});
    one.finish(std::move(pending));
    EXPECT_EQ(a, ranks.size());
    EXPECT_EQ(b, 10 * ranks.size());
  });
}

TEST(ProcessGroup, OutlivesWhatHasSetItUp) {
  test::on_ranks([](Communicator ranks) {
    const Communicator group =
        Communicator::processes(Communicator::processes(ranks, test::patience), test::patience);
    ranks = Communicator::self();
    double value = 2;
    group.all_reduce({&value, 1});
    EXPECT_EQ(value, 2 * group.size());
  });
}

TEST(ProcessGroup, NamesARankThatDoesNotCome) {
  test::on_ranks([](const Communicator& ranks) {
    const Communicator group = Communicator::processes(ranks, 1s);
    const int last = group.size() - 1;
    double value = 1;
    if (group.rank() != last) {
      EXPECT_THAT(test::failure_of<CommError>([&] {
                    group.all_reduce({&value, 1});
                  }),
                  AllOf(HasSubstr("rank " + std::to_string(last)), HasSubstr("within 1 s")));
    }
    ranks.all_gather({&value, 1});  // the last rank waits for the others here
    if (group.rank() == last && last > 0) {
      EXPECT_NE(test::failure_of<CommError>([&] { group.all_reduce({&value, 1}); }), "");
    }
  });
}

TEST(ProcessGroup, CannotBeSplit) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() > 1) {
      const Communicator group = Communicator::processes(ranks, test::patience);
      EXPECT_THAT(test::failure_of<NotConfigured>([&] { group.split(0); }),
                  HasSubstr("cannot be split"));
    }
  });
}

/// Returns a communicator over the same ranks, whose last rank hears an address that is cut short.
Communicator with_address_cut(const Communicator& ranks) {
  return Communicator::custom(ranks.rank(), ranks.size(), [ranks](std::span<double> data) {
    constexpr std::size_t shorter_than_an_invitation = 50;  // [doubles]
    ranks.all_reduce(data);
    if (ranks.rank() == ranks.size() - 1 && data.size() > shorter_than_an_invitation) {
      data[4] = 0;
    }
  });
}

TEST(ProcessGroup, OfRanksOfWhichOneCannotOpenTheMemoryIsRefusedOnAll) {
  test::on_ranks([](const Communicator& ranks) {
    if (ranks.size() > 1) {
      const std::string last = "rank " + std::to_string(ranks.size() - 1);
      EXPECT_THAT(test::failure_of<NotConfigured>(
                      [&] { Communicator::processes(with_address_cut(ranks), test::patience); }),
                  AllOf(HasSubstr("no memory that all ranks share"),
                        HasSubstr(ranks.rank() == ranks.size() - 1 ? "" : last)));
      double value = 1;
      ranks.all_reduce({&value, 1});
      EXPECT_EQ(value, ranks.size()) << "the bootstrap goes on";
    }
  });
}

}  // namespace
}  // namespace syncbn
