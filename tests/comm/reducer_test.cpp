// SPDX-License-Identifier: Apache-2.0
//
// Reducers that contribute nothing: threads as contributors, and beside them threads or another
// process that sum for them.

#include "comm/node/reducer.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/deliveries.hpp"
#include "comm/group/group.hpp"
#include "comm/node/areas.hpp"
#include "comm/node/transport.hpp"
#include "support/failure.hpp"

namespace syncbn::comm::node {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

constexpr std::chrono::seconds patience(30);
// Pieces of all kinds, and more of them than may be under way.
constexpr std::array<std::size_t, 6> lengths{0, 1, 129, 4224, 4225, (depth + 1) * piece_length + 7};

Ranks ranks_of(std::shared_ptr<const Areas> areas, std::size_t self, Roles roles) {
  std::vector<int> names(roles.contributors);
  std::iota(names.begin(), names.end(), 0);
  return Ranks(std::move(areas), self, std::move(names), roles);
}

class Contributor final : public ExchangeTransport {
 public:
  Contributor(Ranks ranks, Deadlines deadlines)
      : ExchangeTransport(std::make_unique<Exchange>(ranks, deadlines)),
        rank_(static_cast<int>(ranks.self())),
        size_(static_cast<int>(ranks.roles().contributors)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::unique_ptr<Transport> split(std::span<const int>) override { return nullptr; }

 private:
  int rank_, size_;
};

/// Runs a reducer in a thread until this object is destroyed.
class Running {
 public:
  explicit Running(Ranks ranks, std::unique_ptr<Network> network = nullptr,
                   Deadlines deadlines = patience)
      : reducer_(std::move(ranks), deadlines, std::move(network)), thread_([this] { run(); }) {}
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() { stop(); }

  void stop() {
    ends_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  /// Why it gave up, "" if it did not; to be called when it is stopped.
  const std::string& failure() const { return failure_; }

 private:
  void run() {
    try {
      for (bool ends = false; !ends;) {
        ends = ends_;  // it looks once more after that
        if (!reducer_.advance()) {
          std::this_thread::yield();
        }
      }
    } catch (const CommError& error) {
      failure_ = error.what();
      reducer_.give_up(failure_);
    }
  }

  Reducer reducer_;
  std::string failure_;
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

using Body = std::function<void(Group&)>;

/// Runs `body` on threads as contributors.
void on_contributors(const std::shared_ptr<const Areas>& areas, Roles roles, const Body& body,
                     Deadlines deadlines = patience) {
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < roles.contributors; ++rank) {
    threads.emplace_back([&areas, &body, roles, rank, deadlines] {
      Group group(std::make_unique<Contributor>(ranks_of(areas, rank, roles), deadlines));
      body(group);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

/// Values in whose sum the order of additions shows.
std::vector<double> values_of(int rank, std::size_t length) {
  std::vector<double> values(length);
  for (std::size_t i = 0; i < length; ++i) {
    values[i] = std::sin(static_cast<double>(i) + 0.1 * rank) * std::pow(10.0, rank);
  }
  return values;
}

/// What ranks of that number get that sum themselves.
std::vector<double> sum_in_rank_order(int ranks, std::size_t length) {
  std::vector<double> sum = values_of(0, length);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<double> values = values_of(rank, length);
    for (std::size_t i = 0; i < length; ++i) {
      sum[i] += values[i];
    }
  }
  return sum;
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return std::ranges::equal(std::as_bytes(std::span(a)), std::as_bytes(std::span(b)));
}

void expect_sums(Group& group) {
  for (const std::size_t length : lengths) {
    std::vector<double> data = values_of(group.rank(), length);
    group.exchange({.count = static_cast<std::int64_t>(length)}, data);
    EXPECT_TRUE(same_bits(data, sum_in_rank_order(group.size(), length))) << length;
  }
  std::vector<std::vector<double>> several;
  std::vector<PendingSum> under_way;
  for (const std::size_t length : lengths) {
    several.push_back(values_of(group.rank(), length));
    under_way.push_back(group.start({}, several.back()));
  }
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    group.finish({}, under_way[i]);
    EXPECT_TRUE(same_bits(several[i], sum_in_rank_order(group.size(), lengths[i])));
  }
}

std::string failure_of_a_sum(Group& group, const Descriptor& what = {}) {
  std::vector<double> data(9, 1.0);
  return test::failure_of<CommError>([&] { group.exchange(what, data); });
}

TEST(Reducer, SumsToTheBitsOfRanksThatSumThemselves) {
  for (const std::size_t contributors : {2, 3, 4}) {
    for (const std::size_t reducers : {1, 2}) {
      const Roles roles{contributors, contributors, reducers};
      const auto areas = Areas::in_process(contributors + reducers);
      std::vector<std::unique_ptr<Running>> running;
      for (std::size_t i = 0; i < reducers; ++i) {
        running.push_back(std::make_unique<Running>(ranks_of(areas, contributors + i, roles)));
      }
      on_contributors(areas, roles, expect_sums);
      for (const auto& reducer : running) {
        reducer->stop();
        EXPECT_EQ(reducer->failure(), "");
      }
    }
  }
}

TEST(Reducer, MayBeTheProcessThatAttachedLast) {
  const Roles roles{2, 2, 1};
  const auto areas = Areas::create(3);
  const std::string address = areas->address();
  areas->introduce(0);
  areas->introduce(1);
  std::array<int, 2> ready{};
  ASSERT_EQ(pipe(ready.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      const auto attached = Areas::attach(address);
      attached->introduce(2);
      Reducer reducer(ranks_of(attached, 2, roles), patience);
      const char word = 'r';
      if (write(ready[1], &word, 1) != 1) {
        _exit(1);
      }
      while ((*attached)[0].state.load() == State::here) {
        reducer.advance();
      }
      _exit(0);
    } catch (const CommError&) {
      _exit(1);
    }
  }
  char word = 0;
  ASSERT_EQ(read(ready[0], &word, 1), 1);
  areas->hide();
  on_contributors(areas, roles, expect_sums);
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST(Reducer, TellsContributorsThatDisagree) {
  const Roles roles{3, 3, 1};
  const auto areas = Areas::in_process(4);
  Running reducer(ranks_of(areas, 3, roles));
  on_contributors(areas, roles, [](Group& group) {
    const Descriptor what{&test::delivery, group.rank() == 1 ? "pears" : "apples", 4, DType::f32};
    EXPECT_THAT(
        failure_of_a_sum(group, what),
        AllOf(HasSubstr("the reducer gave up"),
              HasSubstr("rank 1: exchange #1, delivery of 'pears'"), HasSubstr("ranks 0, 2")));
  });
  reducer.stop();
  EXPECT_THAT(reducer.failure(), HasSubstr("disagree"));
}

TEST(Reducer, ThatHasLeftIsNamed) {
  const Roles roles{2, 2, 1};
  const auto areas = Areas::in_process(3);
  { const Reducer reducer(ranks_of(areas, 2, roles), patience); }
  on_contributors(areas, roles, [](Group& group) {
    EXPECT_THAT(failure_of_a_sum(group), HasSubstr("the reducer left the group"));
  });
}

TEST(Reducer, ThatDoesNothingIsNamedAtTheDeadline) {
  const Roles roles{2, 2, 1};
  const auto areas = Areas::in_process(3);
  const Reducer reducer(ranks_of(areas, 2, roles), patience);
  on_contributors(
      areas, roles,
      [](Group& group) {
        EXPECT_THAT(failure_of_a_sum(group),
                    AllOf(HasSubstr("the reducer"), HasSubstr("within 3 s")));
      },
      3s);
}

TEST(Reducer, DoesNotCoverForAContributorThatDoesNotCome) {
  const Roles roles{3, 3, 1};
  const auto areas = Areas::in_process(4);
  Running reducer(ranks_of(areas, 3, roles));
  std::atomic<int> told{0};
  on_contributors(
      areas, roles,
      [&](Group& group) {
        if (group.rank() == 1) {
          while (told < 2) {
            std::this_thread::yield();
          }
          return;
        }
        EXPECT_THAT(failure_of_a_sum(group),
                    AnyOf(HasSubstr("rank 1 did not come within 3 s"), HasSubstr("gave up: ")));
        ++told;
      },
      3s);
  reducer.stop();
  EXPECT_THAT(reducer.failure(), HasSubstr("gave up: rank 1 did not come"));
}

/// Another node, whose values are the same as this one's, when it comes.
class Mirror final : public Network {
 public:
  explicit Mirror(bool comes) : comes_(comes) {}

  void start(const Message&, std::uint64_t, std::span<double> values) override {
    under_way_.push_back(values);
  }
  bool finished() override {
    if (!comes_ || ++polls_ % 3 != 0) {
      return false;
    }
    for (double& value : under_way_.front()) {
      value *= 2;
    }
    under_way_.erase(under_way_.begin());
    return true;
  }
  std::string missing() override { return "rank 9 of another host"; }
  void tell(std::string_view, bool) noexcept override {}
  void refuse(std::int64_t, std::string_view) noexcept override {}
  std::string news() override { return ""; }

 private:
  bool comes_;
  int polls_ = 0;
  std::vector<std::span<double>> under_way_;
};

TEST(Reducer, SumsOverOtherNodes) {
  for (const std::size_t contributors : {1, 3}) {
    const Roles roles{contributors, contributors, 1};
    const auto areas = Areas::in_process(contributors + 1);
    Running reducer(ranks_of(areas, contributors, roles), std::make_unique<Mirror>(true));
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < contributors; ++rank) {
      threads.emplace_back([&, rank] {
        Exchange exchange(ranks_of(areas, rank, roles), patience);
        std::vector<double> data(piece_length + 9, 1.0);
        Message message = stamped({}, 1, data.size());
        exchange.flight_record()->start(message, 0);
        exchange.finish(exchange.start(message, data));
        EXPECT_EQ(data, std::vector<double>(data.size(), 2.0 * static_cast<double>(contributors)));
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
}

TEST(Reducer, TellsContributorsWhomItWaitsForOnOtherNodes) {
  const Roles roles{2, 2, 1};
  const auto areas = Areas::in_process(3);
  Running reducer(ranks_of(areas, 2, roles), std::make_unique<Mirror>(false), 4s);
  on_contributors(
      areas, roles,
      [](Group& group) {
        EXPECT_THAT(failure_of_a_sum(group),
                    AnyOf(HasSubstr("rank 9 of another host did not come within 4 s"),
                          HasSubstr("gave up: ")));
      },
      4s);
  reducer.stop();
  EXPECT_THAT(reducer.failure(), HasSubstr("gave up: rank 9 of another host did not come"));
}

}  // namespace
}  // namespace syncbn::comm::node
