// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "app/command.hpp"
#include "app/doctor/clocks.hpp"
#include "app/doctor/cuda.hpp"
#include "app/doctor/launch.hpp"
#include "app/doctor/limits.hpp"
#include "app/doctor/network.hpp"
#include "app/doctor/processors.hpp"
#include "app/doctor/report.hpp"
#include "app/doctor/shared_memory.hpp"
#include "app/doctor/traits.hpp"
#include "app/hosts.hpp"
#include "app/last_resort.hpp"
#include "app/launcher.hpp"
#include "app/output_files.hpp"
#include "app/print.hpp"
#include "app/scale/pings.hpp"
#include "app/threads.hpp"
#include "comm/group/flight_files.hpp"
#include "comm/group/this_host.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {
namespace {

using namespace doctor;

constexpr std::size_t long_message = 1 << 20;  ///< [B]

const char* variable(const char* name) {
  return std::getenv(name);
}

/// Collective. Returns how fast messages between hosts are, on all ranks. `when_stuck` is what this
/// rank prints if they do not come back.
std::vector<Speed> measure_speeds(const World& world, Deadlines deadlines,
                                  const std::string& when_stuck) {
  const auto hosts = ranks_by_host(world.communicator);
  std::vector<Speed> speeds;
  const std::vector<scale::Pair> pairs = scale::pairs_of_hosts(hosts);
  if (pairs.empty() || !world.plain_mpi) {
    return speeds;
  }
  // MPI's own calls have no deadline. Rank 0, which has the report so far, is the first to end.
  const int rank = world.communicator.rank();
  const LastResort last_resort(
      deadlines.fail + (rank == 0 ? std::chrono::seconds(0) : std::chrono::seconds(2)), when_stuck);
  const std::unique_ptr<PlainMpi> mpi = world.plain_mpi(0);
  for (const scale::Pair& pair : pairs) {
    std::vector<double> least(2, std::numeric_limits<double>::infinity());
    if (rank == pair.first || rank == pair.second) {
      scale::Pings pings(*mpi, rank, pair);
      least = {std::ranges::min(pings.one_way_times(8, 5, 500, 0.2)),
               std::ranges::min(pings.one_way_times(long_message, 3, 50, 0.5))};
    }
    const std::vector<double> all = world.communicator.all_gather(least);
    const auto at = 2 * static_cast<std::size_t>(pair.first);
    speeds.push_back(
        {pair.first, pair.second, 2 * all[at], static_cast<double>(long_message) / all[at + 1]});
  }
  return speeds;
}

class Doctor final : public Command {
 public:
  Doctor();
  int run(const World& world) override;
  bool runs_among_strangers() const override { return true; }
  std::string advice_on_silence(const std::string& library) const override {
    return advise_alone(read_network(variable), library);
  }

 private:
  Facts examine(const World& world) const;

  std::filesystem::path data_;
  std::filesystem::path json_;
};

Doctor::Doctor()
    : Command("doctor",
              "Looks for what makes jobs fail, hang or slow on these machines, and says what to do "
              "about it:\nlauncher, binding, limits, shared memory, clocks, networks, devices, and "
              "hosts that differ.\nExit code 1 if something is an error; warnings do not change "
              "it.") {
  CommandLine& line = command_line();
  line.section("What to look at");
  line.path("data", data_, "DIR", "also whether all hosts have the same files in this directory");
  line.section("Output");
  line.path("json", json_, "FILE", "also write the report as JSON");
  line.example("mpirun -n 4 syncbn doctor", "the machines of a job that is started in this way");
  line.example("srun syncbn doctor --data /data/mnist --json doctor.json",
               "also the data set; keeps the findings");
}

/// Collective only in reading the wall clocks at the same time.
Facts Doctor::examine(const World& world) const {
  Facts facts;
  facts.host = comm::host_name();
  facts.machine = comm::this_host();
  if (const auto strangers = find_strangers(world.communicator.size(), variable, world.library,
                                            command_line().text())) {
    facts.launch = {strangers->problem, strangers->advice};
  }
  facts.processors = read_processors("/", thread_count());
  facts.shared_memory = read_shared_memory("/");
  facts.limits = read_limits("/");
  facts.clock = read_clock("/");
  facts.traits = read_traits(variable, world.library, data_);
  facts.network = read_network(variable);
  facts.cuda = read_cuda();
  world.communicator.all_gather(std::vector{0.0});
  facts.clock.wall_clock =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return facts;
}

/// Returns all findings but those about speed.
std::vector<Finding> find_all(const std::vector<Facts>& all) {
  std::vector<Finding> findings;
  for (const auto& find :
       {find_about_launch, find_about_processors, find_about_shared_memory, find_about_limits,
        find_about_clocks, find_about_traits, find_about_interfaces, find_about_cuda}) {
    std::ranges::move(find(all), std::back_inserter(findings));
  }
  return findings;
}

int Doctor::run(const World& world) {
  const Communicator& ranks = world.communicator;
  const auto strangers = find_strangers(ranks.size(), variable, world.library, "");
  if (strangers && !strangers->first) {
    return 1;  // the first tells
  }
  require_writable(ranks, json_);
  std::vector<Facts> all;
  for (const std::string& text : trainer::gather_texts(ranks, to_text(examine(world)))) {
    if (ranks.rank() == 0) {
      all.push_back(from_text(text));
    }
  }
  Diagnosis diagnosis{.ranks = ranks.size(), .transport = world.transport, .findings = {}};
  if (ranks.rank() == 0) {
    diagnosis.hosts = static_cast<int>(by_host(all).size());
    diagnosis.findings = find_all(all);
  }
  const std::vector<Speed> speeds = measure_speeds(
      world, command_line().exchange().deadlines,
      (ranks.rank() == 0 ? report_text(diagnosis) : "") +
          fmt::format("syncbn doctor: rank {}: messages between hosts by MPI did not come back in "
                      "time (a rank is stuck, or MPI takes a network on which it does not reach "
                      "the other host). Give --timeout more, if they take so long.\n",
                      ranks.rank()));
  if (ranks.rank() == 0) {
    std::ranges::move(find_about_speed(all, speeds), std::back_inserter(diagnosis.findings));
    print(report_text(diagnosis));
  }
  write_report(ranks, json_, report_json(diagnosis));
  // Rank 0 alone has the findings.
  return ranks.all_gather(std::vector{passed(diagnosis) ? 0.0 : 1.0}).front() == 0 ? 0 : 1;
}

}  // namespace

std::unique_ptr<Command> make_doctor() {
  return std::make_unique<Doctor>();
}

}  // namespace syncbn::app
