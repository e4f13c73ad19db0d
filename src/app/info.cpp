// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <map>
#include <unistd.h>

#include <fmt/format.h>

#include "syncbn/backend.hpp"
#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/bench/onednn_batch_norm.hpp"
#include "app/build_options.hpp"
#include "app/command.hpp"
#include "app/flight_records.hpp"
#include "app/threads.hpp"

namespace syncbn::app {
namespace {

constexpr std::size_t host_length = 64;

/// This machine's name, one character a number, as all_gather carries it.
std::array<double, host_length> own_host() {
  std::array<char, host_length> name{};
  gethostname(name.data(), name.size() - 1);
  std::array<double, host_length> numbers{};
  std::copy(name.begin(), name.end(), numbers.begin());
  return numbers;
}

/// Collective. Each host's ranks.
std::map<std::string, std::vector<int>> ranks_by_host(const Communicator& world) {
  const std::vector<double> all = world.all_gather(own_host());
  std::map<std::string, std::vector<int>> hosts;
  for (int rank = 0; rank < world.size(); ++rank) {
    std::string name;
    for (std::size_t i = 0; i < host_length; ++i) {
      const double code = all[static_cast<std::size_t>(rank) * host_length + i];
      if (code != 0) {
        name += static_cast<char>(code);
      }
    }
    hosts[name].push_back(rank);
  }
  return hosts;
}

/// "0-3, 6" of ascending numbers.
std::string ranges_text(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) {
      ++end;
    }
    text += text.empty() ? "" : ", ";
    text += end - i == 1 ? fmt::format("{}", numbers[i])
                         : fmt::format("{}-{}", numbers[i], numbers[end - 1]);
    i = end;
  }
  return text;
}

void line(std::string_view caption, const std::string& text) {
  fmt::print("{:<14}{}\n", caption, text);
}

}  // namespace

int run_info(const Arguments& arguments, const World& world) {
  CommandLine command("info",
                      "What this build and these machines have; with --flight-record, what ranks "
                      "were doing when an\nexchange failed.");
  command.example("mpirun -n 4 syncbn info", "also shows which rank runs where");
  command.example("syncbn info --flight-record flight",
                  "reads what 'syncbn train --flight-record flight' left when it failed");
  if (!command.parse(arguments, world)) {
    return 0;
  }
  if (command.given("flight-record")) {
    const std::string text = describe_flight_records(exchange_options_of(arguments).flight_record);
    if (world.communicator.rank() == 0) {
      fmt::print("{}", text);
    }
    return 0;
  }
  const auto hosts = ranks_by_host(world.communicator);
  if (world.communicator.rank() != 0) {
    return 0;
  }
  line("syncbn", std::string(version()));
  line("build", fmt::format("{}, {}, {}", compiler, build_type, processor));
  line("with", fmt::format("MPI {}, OpenMP {}, oneDNN {}", with_mpi ? "yes" : "no",
                           with_openmp ? "yes" : "no", bench::onednn_version()));
  line("instructions", std::string(instruction_set()));
  line("threads", fmt::format("{} a rank", thread_count()));
  line("exchange", world.transport);
  line("ranks", fmt::format("{}", world.communicator.size()));
  for (const auto& [host, ranks] : hosts) {
    line("  " + host + " ", (ranks.size() == 1 ? "rank " : "ranks ") + ranges_text(ranks));
  }
  return 0;
}

}  // namespace syncbn::app
