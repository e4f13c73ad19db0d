// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "syncbn/backend.hpp"
#include "syncbn/error.hpp"
#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/bench/onednn_batch_norm.hpp"
#include "app/build_options.hpp"
#include "app/command.hpp"
#include "app/device_world.hpp"
#include "app/flight_records.hpp"
#include "app/hosts.hpp"
#include "app/huge_pages.hpp"
#include "app/print.hpp"
#include "app/threads.hpp"
#include "comm/nccl/device_sharing.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app {
namespace {

void line(std::string_view caption, const std::string& text) {
  print(fmt::format("{:<14}{}\n", caption, text));
}

/// Returns the version of the CUDA that this build is for.
std::string cuda_here() {
  if (with_cuda_emulated) {
    return "emulated";
  }
  return with_cuda ? cuda_version : "no";
}

/// Returns the version of the NCCL that this rank would use.
std::string nccl_here() {
  if (!with_nccl) {
    return "no";
  }
  try {
    return comm::nccl::version();
  } catch (const NotConfigured&) {
    return "not found here";
  }
}

/// Prints what each rank found about huge pages, in rank order in `found`: one line if all hosts
/// are alike, else one line for each finding.
void print_huge_pages(const std::map<std::string, std::vector<int>>& hosts,
                      const std::vector<double>& found) {
  std::map<HugePages, std::vector<std::string>> alike;
  for (const auto& [host, ranks] : hosts) {
    const double first = found[static_cast<std::size_t>(ranks.front())];
    alike[static_cast<HugePages>(first)].push_back(host);
  }
  for (const auto& [what, where] : alike) {
    line("huge pages", alike.size() == 1
                           ? explain(what)
                           : fmt::format("{}: {}", fmt::join(where, ", "), explain(what)));
  }
}

class Info final : public Command {
 public:
  Info();
  int run(const World& world) override;
};

Info::Info()
    : Command(
          "info",
          "What this build and these machines have; with --flight-record, what ranks were doing "
          "when an\nexchange failed.") {
  command_line().example("mpirun -n 4 syncbn info", "also shows which rank runs where");
  command_line().example("syncbn info --flight-record flight",
                         "reads what 'syncbn train --flight-record flight' left when it failed");
}

int Info::run(const World& world) {
  if (command_line().given("flight-record")) {
    const std::string text = describe_flight_records(command_line().exchange().flight_record);
    if (world.communicator.rank() == 0) {
      print(text);
    }
    return 0;
  }
  const auto hosts = ranks_by_host(world.communicator);
  const std::vector<double> pages =
      world.communicator.all_gather(std::vector<double>{static_cast<double>(huge_pages_here())});
  const std::vector<std::string> devices =
      trainer::gather_texts(world.communicator, describe_own_devices());
  if (world.communicator.rank() != 0) {
    return 0;
  }
  line("syncbn", std::string(version()));
  line("build", fmt::format("{}, {}, {}", compiler, build_type, processor));
  line("with",
       fmt::format("MPI {}, OpenMP {}, oneDNN {}, CUDA {}, NCCL {}", with_mpi ? "yes" : "no",
                   with_openmp ? "yes" : "no", bench::onednn_version(), cuda_here(), nccl_here()));
  line("instructions", std::string(instruction_set()));
  line("threads", fmt::format("{} a rank", thread_count()));
  print_huge_pages(hosts, pages);
  line("exchange", world.transport);
  line("ranks", fmt::format("{}", world.communicator.size()));
  for (const auto& [host, ranks] : hosts) {
    std::set<std::string> seen;  // ranks differ where a launcher gives each its own device
    for (const int rank : ranks) {
      seen.insert(devices[static_cast<std::size_t>(rank)]);
    }
    line("  " + host + " ",
         fmt::format("{} {}; CUDA devices: {}", ranks.size() == 1 ? "rank" : "ranks",
                     ranges_text(ranks), fmt::join(seen, " or ")));
  }
  return 0;
}

}  // namespace

std::unique_ptr<Command> make_info() {
  return std::make_unique<Info>();
}

}  // namespace syncbn::app
