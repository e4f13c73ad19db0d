// SPDX-License-Identifier: Apache-2.0
//
// The built-in exchange among many ranks, each simulated by SMPI: ours is what runs, the machine
// and its network are made up. Every rank checks every value. Ends with a line of simulated times,
// which are the same on whatever machine the simulation runs.

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <mpi.h>

#include "syncbn/error.hpp"
#include "syncbn/mpi.hpp"

#include "comm/group/access.hpp"
#include "comm/group/descriptor.hpp"
#include "comm/group/fingerprint.hpp"
#include "comm/group/group.hpp"
#include "comm/node/shared.hpp"
#include "support/failure.hpp"

namespace syncbn {
namespace {

using comm::Descriptor;

// Deadlines are of real time, and a simulated millisecond may take minutes: CTest's is what counts.
constexpr Deadlines none{std::chrono::hours(24), std::chrono::hours(24)};

// Forwards of 0 to 2048 channels, and more pieces than may be under way.
constexpr std::array<std::size_t, 6> lengths{
    0, 1, 129, 1025, 4105, (comm::node::depth + 1) * comm::node::piece_length + 7};
constexpr std::array<std::size_t, 2> few_lengths{129, comm::node::piece_length + 1};

/// What this rank found wrong first.
class Verdict {
 public:
  void expect(bool condition, const std::function<std::string()>& what) {
    if (!condition && failure_.empty()) {
      failure_ = what();
    }
  }

  /// Collective. One rank that found something prints it. Whether none did.
  bool passed() const {
    int rank = 0;
    int size = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const int own = failure_.empty() ? size : rank;
    int first = size;
    MPI_Allreduce(&own, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (first == rank) {
      std::fprintf(stderr, "rank %d of %d: %s\n", rank, size, failure_.c_str());
    }
    return first == size;
  }

 private:
  std::string failure_;
};

// Sums of integers: exact, and a rank that is left out or counted twice shows in every value.

double factor(std::size_t i) {
  return static_cast<double>(1 + i % 1021);
}

std::vector<double> integers(int rank, std::size_t length) {
  const double cube = std::pow(rank + 1, 3);
  std::vector<double> values(length);
  for (std::size_t i = 0; i < length; ++i) {
    values[i] = cube * factor(i);
  }
  return values;
}

void expect_sum(std::span<const double> sum, const Communicator& group, Verdict& verdict) {
  const double cubes = std::pow(group.size() * (group.size() + 1.0) / 2, 2);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    verdict.expect(sum[i] == cubes * factor(i), [&] {
      return "value " + std::to_string(i) + " of " + std::to_string(sum.size()) + " over " +
             std::to_string(group.size()) + " ranks is " + std::to_string(sum[i]) + ", not " +
             std::to_string(cubes * factor(i));
    });
  }
}

void sums_are_exact(const Communicator& group, std::span<const std::size_t> of_lengths,
                    Verdict& verdict) {
  for (const std::size_t length : of_lengths) {
    std::vector<double> values = integers(group.rank(), length);
    group.all_reduce(values);
    expect_sum(values, group, verdict);
  }
}

void several_at_once(const Communicator& group, Verdict& verdict) {
  constexpr std::array<std::size_t, 5> together{1, 129, 1025, 0, comm::node::piece_length + 1};
  std::array<std::vector<double>, together.size()> values;
  std::array<PendingSum, together.size()> started;
  const Descriptor what{.subject = "bn", .count = 1};
  for (std::size_t message = 0; message < together.size(); ++message) {
    values[message] = integers(group.rank(), together[message]);
    started[message] = comm::Access::group(group).start(what, values[message]);
  }
  for (std::size_t message = together.size(); message-- > 0;) {
    comm::Access::group(group).finish(what, started[message]);
    expect_sum(values[message], group, verdict);
  }
}

// Sums that are rounded: each rank has the same bits, those of the order of addition that
// comm/mpi/schedule.hpp promises.

double fraction(int rank, std::size_t i) {
  const std::uint64_t bits =
      comm::Fingerprint().add(static_cast<std::uint64_t>(rank)).add(i).value();
  const double mantissa = static_cast<double>(bits >> 12) / static_cast<double>(1ULL << 52) - 0.5;
  return std::ldexp(mantissa, static_cast<int>(bits % 64) - 32);
}

/// The largest number up to `hosts` without prime factors but 2 and 3.
std::size_t core_of(std::size_t hosts) {
  for (std::size_t core = hosts;; --core) {
    std::size_t rest = core;
    for (const std::size_t factor : {2, 3}) {
      while (rest % factor == 0) {
        rest /= factor;
      }
    }
    if (rest == 1) {
      return core;
    }
  }
}

/// Host by host, each with `per_host` ranks.
double sum_of_fractions(int ranks, int per_host, std::size_t i) {
  const int hosts = ranks / per_host;
  std::vector<double> sums(static_cast<std::size_t>(hosts));
  for (int host = 0; host < hosts; ++host) {
    double& sum = sums[static_cast<std::size_t>(host)];
    sum = fraction(host * per_host, i);
    for (int rank = 1; rank < per_host; ++rank) {
      sum += fraction(host * per_host + rank, i);
    }
  }
  const std::size_t core = core_of(sums.size());
  for (std::size_t host = core; host < sums.size(); ++host) {
    sums[host - core] += sums[host];
  }
  sums.resize(core);
  while (sums.size() > 1) {
    const std::size_t radix = sums.size() % 2 == 0 ? 2 : 3;
    for (std::size_t to = 0; to < sums.size() / radix; ++to) {
      sums[to] = sums[radix * to];
      for (std::size_t k = 1; k < radix; ++k) {
        sums[to] += sums[radix * to + k];
      }
    }
    sums.resize(sums.size() / radix);
  }
  return sums.front();
}

std::vector<double> fractions(int rank, std::size_t length) {
  std::vector<double> values(length);
  for (std::size_t i = 0; i < length; ++i) {
    values[i] = fraction(rank, i);
  }
  return values;
}

void bits_are_as_promised(const Communicator& world, int per_host, Verdict& verdict) {
  std::vector<double> values = fractions(world.rank(), 33);
  world.all_reduce(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double expected = sum_of_fractions(world.size(), per_host, i);
    verdict.expect(
        std::bit_cast<std::uint64_t>(values[i]) == std::bit_cast<std::uint64_t>(expected), [&] {
          std::array<char, 128> text{};
          std::snprintf(text.data(), text.size(), "rounded value %zu is %a, not %a", i, values[i],
                        expected);
          return std::string(text.data());
        });
  }
}

void bits_are_the_same(const Communicator& group, Verdict& verdict) {
  std::vector<double> values = fractions(group.rank(), 1025);
  group.all_reduce(values);
  const std::uint64_t hash =
      comm::Fingerprint().add(std::as_bytes(std::span<const double>(values))).value();
  std::array<double, 4> own;
  for (std::size_t i = 0; i < own.size(); ++i) {
    own[i] = static_cast<double>((hash >> (16 * i)) & 0xffff);
  }
  std::array<double, 4> all = own;
  group.all_reduce(all);
  for (std::size_t i = 0; i < own.size(); ++i) {
    verdict.expect(all[i] == group.size() * own[i],
                   [&] { return "rounded sums differ from rank to rank"; });
  }
}

void in_sub_groups(const Communicator& world, Verdict& verdict) {
  const auto check = [&](int color, int rank, int size) {
    const Communicator part = world.split(color);
    verdict.expect(part.rank() == rank && part.size() == size, [&] {
      return "rank " + std::to_string(part.rank()) + " of " + std::to_string(part.size()) +
             " in sub-group " + std::to_string(color);
    });
    sums_are_exact(part, few_lengths, verdict);
    bits_are_the_same(part, verdict);
  };
  const int rank = world.rank();
  const int size = world.size();
  check(rank % 7, rank / 7, (size - rank % 7 + 6) / 7);              // far from each other
  check(rank / 33, rank % 33, std::min(33, size - rank / 33 * 33));  // next to each other
}

// Ranks that are not in the same exchange.

/// `group`, unusable afterwards, in which rank `odd` does something else, one of three `kinds`.
void disagreement_is_told(const Communicator& group, int per_host, int odd, int kind,
                          Verdict& verdict) {
  constexpr std::array<std::array<const char*, 2>, 3> told{{
      {"all_reduce of 'bn1' (n=4, f32)", "all_reduce of 'bn2' (n=4, f32)"},
      {"all_reduce of 5 values", "all_gather of 5 values"},
      {"all_reduce of 5 values", "all_reduce of 4000 values"},
  }};
  const bool differs = group.rank() == odd;
  Descriptor what{.count = 5};
  std::size_t length = 5;
  if (kind == 0) {
    what = {.subject = differs ? "bn2" : "bn1", .count = 4, .dtype = DType::f32};
  } else if (differs && kind == 1) {
    what.operation = &comm::operations::all_gather;
  } else if (differs) {
    length = 4000;
    what.count = 4000;
  }
  std::vector<double> values(length, 1.0);
  const std::string failure =
      test::failure_of<CommError>([&] { comm::Access::group(group).exchange(what, values); });

  const auto& [usual, other] = told[static_cast<std::size_t>(kind)];
  std::string those;  // of one host, if it finds out by itself
  if (per_host == 1) {
    std::vector<int> others(static_cast<std::size_t>(group.size()));
    std::iota(others.begin(), others.end(), 0);
    others.erase(others.begin() + odd);
    those = "\n  " + comm::list_ranks(others);
  }
  for (const std::string& line :
       {those + ": exchange #1, " + usual + "\n",
        "\n  rank " + std::to_string(odd) + ": exchange #1, " + other + "\n"}) {
    verdict.expect(failure.find(line) != std::string::npos,
                   [&] { return "no line '" + line + "' in: " + failure; });
  }
}

void disagreements_are_told(const Communicator& world, int per_host, Verdict& verdict) {
  constexpr int together = 17;
  const int number = world.rank() / together;
  const Communicator part = world.split(number);
  if (part.size() > 1) {
    const std::array<int, 3> odd{part.size() - 1, 0, part.size() / 2};
    disagreement_is_told(part, per_host, odd[static_cast<std::size_t>(number % 3)], number % 3,
                         verdict);
  }
  if (world.size() <= 100) {  // each rank tells each other one that it gives up
    disagreement_is_told(world.split(0), per_host, world.size() / 3, 0, verdict);
  }
  bits_are_the_same(world, verdict);  // which it did not reach
}

/// Of one all-reduce, in simulated time. [s]
double time_of(const Communicator& group, std::size_t length) {
  std::vector<double> values(length);
  MPI_Barrier(MPI_COMM_WORLD);
  const double begin = MPI_Wtime();
  group.all_reduce(values);
  const double own = MPI_Wtime() - begin;
  double slowest = 0;
  MPI_Allreduce(&own, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return slowest;
}

int ranks_of_this_host() {
  MPI_Comm host = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
  int ranks = 0;
  MPI_Comm_size(host, &ranks);
  MPI_Comm_free(&host);
  return ranks;
}

bool passes() {
  Verdict verdict;
  const int per_host = ranks_of_this_host();
  const Communicator world = mpi_communicator(MPI_COMM_WORLD, none, MpiExchange::builtin);
  const double small = time_of(world, 129);
  const double large = time_of(world, 4105);
  sums_are_exact(world, lengths, verdict);
  several_at_once(world, verdict);
  bits_are_as_promised(world, per_host, verdict);
  bits_are_the_same(world, verdict);
  if (!verdict.passed()) {  // sub-groups are made with the help of sums
    return false;
  }
  in_sub_groups(world, verdict);
  disagreements_are_told(world, per_host, verdict);
  if (world.rank() == 0) {
    std::printf(
        "%d ranks on %d hosts: all-reduce of 129 doubles in %.1f us, of 4105 in %.1f us "
        "(simulated)\n",
        world.size(), world.size() / per_host, 1e6 * small, 1e6 * large);
  }
  return verdict.passed();
}

}  // namespace
}  // namespace syncbn

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  std::string thrown;
  bool passed = false;
  try {
    passed = syncbn::passes();
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  if (!thrown.empty()) {
    std::fprintf(stderr, "a rank threw: %s\n", thrown.c_str());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return passed ? 0 : 1;
}
