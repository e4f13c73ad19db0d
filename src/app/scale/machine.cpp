// SPDX-License-Identifier: Apache-2.0
#include "app/scale/machine.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/utsname.h>

#include "syncbn/backend.hpp"

#include "core/cpu_quota.hpp"

#include "app/build_options.hpp"
#include "app/hosts.hpp"
#include "app/scale/common_clock.hpp"
#include "app/threads.hpp"
#include "trainer/agreement.hpp"

namespace syncbn::app::scale {
namespace {

/// Returns the processor's name as the kernel has it, or else the architecture.
std::string processor_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return processor;
}

/// Returns the first line of a file of the system; null if there is none.
Json first_line(const char* file) {
  std::string line;
  return std::getline(std::ifstream(file), line) ? Json(line) : Json(nullptr);
}

std::string kernel() {
  utsname names{};
  uname(&names);
  return fmt::format("{} {}", names.sysname, names.release);
}

double load() {
  double average = 0;
  return getloadavg(&average, 1) == 1 ? average : 0;
}

double memory_bytes() {
  return static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

/// Describes this rank's host, and what the rank is bound to.
Json describe_here() {
  const std::optional<double> quota = cpu_quota();
  return {{"processor", processor_name()},
          {"processors", std::max(1U, std::thread::hardware_concurrency())},
          {"quota", quota ? Json(*quota) : Json(nullptr)},
          {"kernel", kernel()},
          {"boot", kernel_here()},
          {"governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")},
          {"memory_bytes", memory_bytes()},
          {"huge_pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled")},
          {"load", rounded(load())},
          {"binding", processor_list()},
          {"own_processors", processor_count()}};
}

/// Returns whether ranks have more threads than the processors that they may run on. Hosts with one
/// kernel, which are containers or namespaces, share its processors.
bool oversubscribed(const std::vector<Json>& ranks) {
  std::map<std::pair<std::string, std::string>, int> bound;  // threads by kernel and processors
  std::map<std::string, int> all;                            // threads by kernel
  for (const Json& rank : ranks) {
    bound[{rank["boot"], rank["binding"]}] += thread_count();
    all[rank["boot"]] += thread_count();
  }
  return std::ranges::any_of(ranks, [&](const Json& rank) {
    const int threads = all.at(rank["boot"]);
    return bound.at({rank["boot"], rank["binding"]}) > rank["own_processors"].get<int>() ||
           threads > rank["processors"].get<int>() ||
           (!rank["quota"].is_null() && threads > rank["quota"].get<double>());
  });
}

}  // namespace

Json describe_machine(const World& world) {
  const auto by_host = ranks_by_host(world.communicator);
  std::vector<Json> ranks;
  for (const std::string& text :
       trainer::gather_texts(world.communicator, describe_here().dump())) {
    ranks.push_back(Json::parse(text));
  }
  Json hosts = Json::array();
  for (const auto& [name, members] : by_host) {
    Json host = {{"name", name}, {"ranks", members}};
    Json facts = ranks[static_cast<std::size_t>(members.front())];
    facts.erase("binding");
    facts.erase("own_processors");
    host.update(facts);
    hosts.push_back(std::move(host));
  }
  Json binding = Json::array();
  for (const Json& rank : ranks) {
    binding.push_back(rank["binding"]);
  }
  return {{"transport", world.transport},
          {"instruction_set", instruction_set()},
          {"compiler", compiler},
          {"build_type", build_type},
          {"ranks", world.communicator.size()},
          {"threads", thread_count()},
          {"oversubscribed", oversubscribed(ranks)},
          {"hosts", hosts},
          {"binding", binding}};
}

}  // namespace syncbn::app::scale
