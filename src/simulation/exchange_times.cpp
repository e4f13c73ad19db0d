// SPDX-License-Identifier: Apache-2.0
//
// exchange_times ping|exchange REPETITIONS LENGTH...: takes times of messages among simulated
// ranks.
//
//   ping      half a round trip between the first two ranks, of messages of LENGTH bytes
//   exchange  an all-reduce of LENGTH doubles over all ranks by the built-in exchange, from the
//             moment at which all ranks begin to that at which the last one has the sum
//
// The first rank prints a line of JSON for each length: {"length": LENGTH, "seconds": [...]}, with
// the time of each repetition. All times are simulated, and all ranks read the same clock.

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <mpi.h>

#include <nlohmann/json.hpp>

#include "syncbn/communicator.hpp"
#include "syncbn/mpi.hpp"

namespace syncbn {
namespace {

// Deadlines are of real time, and a simulated millisecond may take minutes.
constexpr Deadlines no_deadlines{std::chrono::hours(24), std::chrono::hours(24)};

int own_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

/// Collective. Returns the largest of the ranks' values.
double largest(double value) {
  double all = 0;
  MPI_Allreduce(&value, &all, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return all;
}

/// Returns at time `begin`, which all ranks know. [s]
void wait_until(double begin) {
  const double pause = begin - MPI_Wtime();
  if (pause < 0) {
    throw std::runtime_error(
        "ranks begin an exchange late (the network is too slow to agree on a time). Give it a "
        "lower "
        "latency.");
  }
  const auto seconds = static_cast<std::time_t>(pause);
  const auto rest = static_cast<long>(1e9 * (pause - static_cast<double>(seconds)));
  const timespec time{seconds, rest};
  smpi_nanosleep(&time, nullptr);
}

/// Collective. Returns the time of each all-reduce. [s]
std::vector<double> exchange(const Communicator& ranks, std::size_t doubles, int repetitions) {
  constexpr double pause = 100;  // s; ranks learn meanwhile when the next exchange begins
  std::vector<double> values(doubles);
  std::vector<double> times;
  double begin = largest(MPI_Wtime()) + pause;
  for (int i = 0; i < repetitions; ++i) {
    wait_until(begin);
    ranks.all_reduce(values);
    const double end = largest(MPI_Wtime());
    times.push_back(end - begin);
    begin = end + pause;
  }
  return times;
}

/// Called by the first two ranks. Returns half of the time of each round trip. [s]
std::vector<double> ping(std::size_t bytes, int repetitions) {
  const int other = 1 - own_rank();
  const auto size = static_cast<int>(bytes);
  std::vector<std::byte> message(bytes);
  std::vector<double> times;
  const auto send = [&] { MPI_Send(message.data(), size, MPI_BYTE, other, 0, MPI_COMM_WORLD); };
  const auto receive = [&] {
    MPI_Recv(message.data(), size, MPI_BYTE, other, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  };
  for (int i = 0; i < repetitions; ++i) {
    const double begin = MPI_Wtime();
    if (own_rank() == 0) {
      send();
      receive();
    } else {
      receive();
      send();
    }
    times.push_back((MPI_Wtime() - begin) / 2);
  }
  return times;
}

std::size_t number(std::string_view text) {
  std::size_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) {
    throw std::invalid_argument("'" + std::string(text) + "' is no number");
  }
  return value;
}

void run(std::span<char* const> arguments) {
  if (arguments.size() < 3) {
    throw std::invalid_argument("usage: exchange_times ping|exchange REPETITIONS LENGTH...");
  }
  const std::string_view kind = arguments[0];
  const auto repetitions = static_cast<int>(number(arguments[1]));
  const auto print = [](std::size_t length, const std::vector<double>& times) {
    if (own_rank() == 0) {
      std::puts(nlohmann::json{{"length", length}, {"seconds", times}}.dump().c_str());
    }
  };
  if (kind == "ping") {
    for (const char* length : arguments.subspan(2)) {
      if (own_rank() < 2) {
        print(number(length), ping(number(length), repetitions));
      }
    }
  } else if (kind == "exchange") {
    const Communicator ranks = mpi_communicator(MPI_COMM_WORLD, no_deadlines, MpiExchange::builtin);
    for (const char* length : arguments.subspan(2)) {
      print(number(length), exchange(ranks, number(length), repetitions));
    }
  } else {
    throw std::invalid_argument("'" + std::string(kind) + "' is neither ping nor exchange");
  }
}

}  // namespace
}  // namespace syncbn

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  std::string problem;
  try {
    syncbn::run(std::span(argv + 1, static_cast<std::size_t>(argc - 1)));
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (!problem.empty()) {
    std::fprintf(stderr, "exchange_times: %s\n", problem.c_str());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
  return 0;
}
