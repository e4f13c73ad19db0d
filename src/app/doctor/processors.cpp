// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/processors.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <map>
#include <string>

#include <fmt/format.h>

#include "core/cpu_quota.hpp"

#include "app/doctor/first_line.hpp"
#include "app/threads.hpp"

namespace syncbn::app::doctor {
namespace {

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

/// Returns the processors on which these ranks may run, all together.
std::set<int> processors_of(const Members& members) {
  std::set<int> all;
  for (const Facts& facts : members.facts) {
    all.merge(processors_in(facts.processors.allowed));
  }
  return all;
}

std::size_t processors_online(const Members& members) {
  return processors_in(members.facts.front().processors.online).size();
}

int threads_of(const Members& members) {
  int threads = 0;
  for (const Facts& facts : members.facts) {
    threads += facts.processors.threads;
  }
  return threads;
}

/// Returns how many ranks may run on each set of processors, by its list.
std::map<std::string, std::vector<int>> ranks_by_set(const Members& members) {
  std::map<std::string, std::vector<int>> ranks;
  for (std::size_t i = 0; i < members.ranks.size(); ++i) {
    ranks[members.facts[i].processors.allowed].push_back(members.ranks[i]);
  }
  return ranks;
}

const Verdict not_told = {Severity::unknown, "the system does not tell on which processors", ""};

/// A set of processors that has more ranks or threads than processors, although the machine has
/// more, was chosen by a launcher.
Verdict judge_binding(const Members& members) {
  const std::size_t online = processors_online(members);
  if (online == 0 || processors_of(members).empty()) {
    return not_told;
  }
  for (const auto& [list, ranks] : ranks_by_set(members)) {
    const std::size_t size = processors_in(list).size();
    if (size < online && ranks.size() > size) {
      return {Severity::error,
              fmt::format("{} are bound to the same {} (number {}) of {}",
                          counted(ranks.size(), "rank"), counted(size, "processor"), list, online),
              "Let the launcher bind no rank, or each to processors of its own: `mpirun --bind-to "
              "none`, or `mpirun --map-by slot:PE=N --bind-to core`; `srun --cpu-bind=cores "
              "--cpus-per-task=N`. Is there a taskset before the command?",
              ranks};
    }
  }
  for (std::size_t i = 0; i < members.ranks.size(); ++i) {
    const ProcessorFacts& own = members.facts[i].processors;
    const std::size_t size = processors_in(own.allowed).size();
    const auto threads = static_cast<std::size_t>(own.threads);
    if (threads > size && size < online) {
      return {Severity::error,
              fmt::format("a rank of {} threads is bound to {} (number {}) of {}", own.threads,
                          counted(size, "processor"), own.allowed, online),
              fmt::format("Give each rank as many as it has threads: `mpirun --map-by slot:PE={0}` "
                          "or `mpirun --bind-to none`, `srun --cpus-per-task={0}`; or "
                          "OMP_NUM_THREADS={1}.",
                          own.threads, size),
              {members.ranks[i]}};
    }
  }
  return {Severity::ok,
          fmt::format("ranks may run on {} of {}", processors_of(members).size(),
                      counted(online, "processor")),
          ""};
}

/// Returns how many processors these ranks have. Where the binding is wrong, they could have all.
std::size_t processors_for(const Members& members) {
  const std::size_t allowed = processors_of(members).size();
  return judge_binding(members).severity == Severity::error
             ? std::max(allowed, processors_online(members))
             : allowed;
}

Verdict judge_ranks(const Members& members) {
  const std::size_t processors = processors_for(members);
  const std::size_t ranks = members.ranks.size();
  if (processors == 0) {
    return not_told;
  }
  const std::string seen =
      fmt::format("{} on {}", counted(ranks, "rank"), counted(processors, "processor"));
  if (ranks <= processors) {
    return {Severity::ok, seen, ""};
  }
  return {Severity::error, seen,
          fmt::format("Start {} on this host, or give the job more hosts; a rank that waits takes "
                      "a processor from one that works. To try things out regardless: `mpirun "
                      "--mca mpi_yield_when_idle 1`.",
                      counted(processors, "rank"))};
}

Verdict judge_threads(const Members& members) {
  const std::size_t processors = processors_for(members);
  const auto threads = static_cast<std::size_t>(threads_of(members));
  if (processors == 0) {
    return not_told;
  }
  const std::string seen =
      fmt::format("{} of {} on {}", counted(threads, "thread"),
                  counted(members.ranks.size(), "rank"), counted(processors, "processor"));
  // Too many ranks are another finding.
  if (threads <= processors || threads <= members.ranks.size()) {
    return {Severity::ok, seen, ""};
  }
  return {Severity::error, seen,
          fmt::format("Set OMP_NUM_THREADS={} (`mpirun -x OMP_NUM_THREADS={}`), or leave it unset: "
                      "then syncbn divides the processors itself.",
                      std::max<std::size_t>(1, processors / members.ranks.size()),
                      std::max<std::size_t>(1, processors / members.ranks.size()))};
}

Verdict judge_quota(const Members& members) {
  const std::optional<double> quota = members.facts.front().processors.quota;
  const int threads = threads_of(members);
  if (!quota) {
    return {Severity::ok, "no limit of processor time", ""};
  }
  const std::string seen =
      fmt::format("{} share a quota of {:g} processors",
                  counted(static_cast<std::size_t>(threads), "thread"), *quota);
  if (threads <= *quota) {
    return {Severity::ok, seen, ""};
  }
  return {
      Severity::error, seen,
      fmt::format("Raise the container's limit (`docker run --cpus {0}`, `resources.limits.cpu: "
                  "{0}` in Kubernetes, `CPUQuota={0}00%` in systemd), or start fewer ranks or "
                  "threads: when the quota is used up, all of them stop until the next period.",
                  threads)};
}

/// With these drivers the hardware, not the governor, chooses frequencies: powersave is a hint.
bool hardware_chooses(const std::string& driver) {
  return driver == "intel_pstate" || driver == "amd-pstate-epp" || driver == "amd_pstate_epp";
}

Verdict judge_governor(const Members& members) {
  const ProcessorFacts& facts = members.facts.front().processors;
  if (facts.governor.empty()) {
    return {Severity::unknown, "the system shows no frequency governor", ""};
  }
  const std::string seen =
      fmt::format("frequency governor {} of driver {}", facts.governor,
                  facts.frequency_driver.empty() ? "unknown" : facts.frequency_driver);
  if (facts.governor != "powersave" || hardware_chooses(facts.frequency_driver)) {
    return {Severity::ok, seen, ""};
  }
  return {Severity::warning, seen + ": processors run at their lowest frequency",
          "As root: `cpupower frequency-set -g performance`; in a Slurm job `srun "
          "--cpu-freq=Performance`."};
}

}  // namespace

std::set<int> processors_in(std::string_view list) {
  std::set<int> numbers;
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    const std::string_view part = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    int first = 0;
    const char* const end = part.data() + part.size();
    const auto [rest, error] = std::from_chars(part.data(), end, first);
    if (error != std::errc()) {
      continue;
    }
    int last = first;
    if (rest != end && *rest == '-') {
      std::from_chars(rest + 1, end, last);
    }
    for (int number = first; number <= last; ++number) {
      numbers.insert(number);
    }
  }
  return numbers;
}

ProcessorFacts read_processors(const std::filesystem::path& root, int threads) {
  const std::filesystem::path processors = root / "sys/devices/system/cpu";
  const std::filesystem::path frequency = processors / "cpu0/cpufreq";
  return {.online = first_line(processors / "online"),
          .allowed = processor_list(root),
          .quota = cpu_quota(root),
          .threads = threads,
          .governor = first_line(frequency / "scaling_governor"),
          .frequency_driver = first_line(frequency / "scaling_driver")};
}

std::vector<Finding> find_about_processors(const std::vector<Facts>& all) {
  const std::vector<Members> machines = by_machine(all);
  const std::vector<Members> hosts = by_host(all);
  std::vector<Finding> findings = judge("binding", machines, judge_binding);
  const auto add = [&](std::vector<Finding> more) {
    findings.insert(findings.end(), more.begin(), more.end());
  };
  add(judge("ranks-per-core", machines, judge_ranks));
  add(judge("threads-per-core", machines, judge_threads));
  add(judge("cpu-quota", hosts, judge_quota));
  add(judge("frequency-governor", machines, judge_governor));
  return findings;
}

}  // namespace syncbn::app::doctor
