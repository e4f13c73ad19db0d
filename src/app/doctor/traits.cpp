// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/traits.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>

#include "syncbn/backend.hpp"
#include "syncbn/version.hpp"

#include "app/file_digest.hpp"
#include "app/hosts.hpp"
#include "app/library_variables.hpp"

namespace syncbn::app::doctor {
namespace {

namespace fs = std::filesystem;

/// Variables of others that change a run's results or its speed. Like the library's own, they
/// should be set alike everywhere.
constexpr const char* other_variables[] = {
    "OMP_NUM_THREADS", "OMP_PROC_BIND",       "OMP_PLACES", "NCCL_ALGO",
    "NCCL_PROTO",      "NCCL_SOCKET_IFNAME",  "LD_PRELOAD", "GLIBC_TUNABLES",
    "MKL_NUM_THREADS", "THP_MEM_ALLOC_ENABLE"};

/// Returns the digests of the regular files of a directory, and what is wrong with it as that of
/// the directory itself.
std::map<std::string, std::string> digests_in(const fs::path& directory) {
  std::map<std::string, std::string> digests;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (entry.is_regular_file(error)) {
      digests[entry.path().filename().string()] = file_digest(entry.path());
    }
  }
  if (digests.empty()) {
    digests["."] = error ? error.message() : "no files";
  }
  return digests;
}

std::string kernel_release() {
  utsname names{};
  uname(&names);
  return fmt::format("{} {} {}", names.sysname, names.release, names.machine);
}

/// Returns who has which value: "node1 (ranks 0-3): a; node2 (rank 4): b".
std::string who_has_which(const Members& members,
                          const std::function<std::string(const Facts&)>& value_of) {
  std::vector<std::pair<std::string, std::vector<std::size_t>>> ranks_of;  // the first ranks' first
  for (std::size_t i = 0; i < members.facts.size(); ++i) {
    const std::string value = value_of(members.facts[i]);
    auto alike = std::ranges::find(ranks_of, value, [](const auto& entry) { return entry.first; });
    if (alike == ranks_of.end()) {
      alike = ranks_of.insert(ranks_of.end(), {value, {}});
    }
    alike->second.push_back(i);
  }
  std::vector<std::string> parts;
  for (const auto& [value, places] : ranks_of) {
    std::vector<std::string> hosts;
    std::vector<int> ranks;
    for (const std::size_t place : places) {
      const std::string& host = members.facts[place].host;
      if (std::ranges::find(hosts, host) == hosts.end()) {
        hosts.push_back(host);
      }
      ranks.push_back(members.ranks[place]);
    }
    parts.push_back(fmt::format("{} on {} ({} {})", value.empty() ? "none" : value,
                                fmt::join(hosts, ", "), ranks.size() == 1 ? "rank" : "ranks",
                                ranges_text(ranks)));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

/// A Trait is what ranks should have in common.
struct Trait {
  const char* name;  ///< of the finding
  const char* what;
  Severity if_not;
  const char* advice;
  std::function<std::string(const Facts&)> value;
};

Verdict judge_trait(const Members& members, const Trait& trait) {
  const std::string first = trait.value(members.facts.front());
  const bool alike = std::ranges::all_of(
      members.facts, [&](const Facts& facts) { return trait.value(facts) == first; });
  if (alike) {
    return {Severity::ok, fmt::format("{}: {}", trait.what, first.empty() ? "none" : first), ""};
  }
  return {trait.if_not,
          fmt::format("{} differs: {}", trait.what, who_has_which(members, trait.value)),
          trait.advice};
}

/// Returns the entries of a map that not all ranks have, or that they have with other values.
std::vector<std::string> differing(const Members& members,
                                   std::map<std::string, std::string> TraitFacts::*entries) {
  std::map<std::string, std::string> all;
  for (const Facts& facts : members.facts) {
    all.insert((facts.traits.*entries).begin(), (facts.traits.*entries).end());
  }
  std::vector<std::string> names;
  for (const auto& [name, value] : all) {
    const bool alike = std::ranges::all_of(members.facts, [&](const Facts& facts) {
      const auto found = (facts.traits.*entries).find(name);
      return found != (facts.traits.*entries).end() && found->second == value;
    });
    if (!alike) {
      names.push_back(name);
    }
  }
  return names;
}

std::string entry(const std::map<std::string, std::string>& entries, const std::string& name) {
  const auto found = entries.find(name);
  return found == entries.end() ? "" : found->second;
}

Verdict judge_environment(const Members& members) {
  std::vector<std::string> texts;
  std::vector<std::string> passed;
  for (const std::string& name : differing(members, &TraitFacts::environment)) {
    texts.push_back(fmt::format("{}: {}", name, who_has_which(members, [&](const Facts& facts) {
                                  return entry(facts.traits.environment, name);
                                })));
    passed.push_back("-x " + name);
  }
  if (texts.empty()) {
    return {Severity::ok, "the same environment", ""};
  }
  return {Severity::warning, fmt::format("the environment differs in {}", fmt::join(texts, "; ")),
          fmt::format("Hand them on: `mpirun {}`, or `srun --export=ALL`; what the shells of other "
                      "hosts read at start (~/.bashrc) may set them, too.",
                      fmt::join(passed, " "))};
}

Verdict judge_data(const Members& members) {
  const auto& first = members.facts.front().traits.data;
  if (std::ranges::all_of(members.facts,
                          [](const Facts& facts) { return facts.traits.data.empty(); })) {
    return {Severity::unknown, "data sets are compared with --data DIRECTORY", ""};
  }
  std::vector<std::string> texts;
  for (const std::string& name : differing(members, &TraitFacts::data)) {
    texts.push_back(fmt::format("{}: {}", name == "." ? "the directory" : name,
                                who_has_which(members, [&](const Facts& facts) {
                                  return entry(facts.traits.data, name);
                                })));
  }
  if (!texts.empty()) {
    return {Severity::error, fmt::format("the data set differs in {}", fmt::join(texts, "; ")),
            "Copy it anew to the hosts that have another (`rsync --archive --checksum --delete`), "
            "or keep it where all hosts see the same files."};
  }
  if (first.contains(".")) {
    return {Severity::error, fmt::format("the data set cannot be read: {}", first.at(".")),
            "Give --data a directory with the data set's files."};
  }
  return {Severity::ok,
          fmt::format("the same {} of the data set",
                      first.size() == 1 ? "file" : fmt::format("{} files", first.size())),
          ""};
}

const Trait traits[] = {
    {"same-version", "syncbn", Severity::error,
     "Install the same build on all hosts, or start one from a directory that all share: ranks of "
     "different builds need not understand each other.",
     [](const Facts& facts) {
       return fmt::format("{} ({})", facts.traits.version, facts.traits.program);
     }},
    {"same-mpi", "MPI", Severity::error,
     "Load the same MPI on all hosts (`module load`, LD_LIBRARY_PATH: `mpirun -x "
     "LD_LIBRARY_PATH`).",
     [](const Facts& facts) { return facts.traits.mpi; }},
    {"same-instruction-set", "instruction set", Severity::warning,
     "Take hosts of one kind (`srun --constraint`), or expect the speed of the slowest and other "
     "bits than on hosts of one kind.",
     [](const Facts& facts) { return facts.traits.instruction_set; }},
    {"same-kernel", "kernel", Severity::warning,
     "Update and reboot the hosts that are behind; different kernels are seldom wrong, but often "
     "tell that a host was forgotten.",
     [](const Facts& facts) { return facts.traits.kernel_release; }},
};

}  // namespace

TraitFacts read_traits(const Environment& environment, const std::string& mpi,
                       const fs::path& data) {
  TraitFacts facts{.version = std::string(version()),
                   .program = file_digest(own_program),
                   .mpi = mpi,
                   .instruction_set = std::string(instruction_set()),
                   .kernel_release = kernel_release()};
  const auto note_variable = [&](const char* name) {
    if (const char* value = environment(name)) {
      facts.environment[name] = value;
    }
  };
  std::ranges::for_each(library_variables, note_variable);
  std::ranges::for_each(other_variables, note_variable);
  if (!data.empty()) {
    facts.data = digests_in(data);
  }
  return facts;
}

std::vector<Finding> find_about_traits(const std::vector<Facts>& all) {
  const std::vector<Members> ranks = {everybody(all)};
  std::vector<Finding> findings;
  const auto add = [&](const char* name, const std::function<Verdict(const Members&)>& verdict_of) {
    std::ranges::move(judge(name, ranks, verdict_of), std::back_inserter(findings));
  };
  for (const Trait& trait : traits) {
    add(trait.name, [&](const Members& members) { return judge_trait(members, trait); });
  }
  add("same-environment", judge_environment);
  add("same-data", judge_data);
  return findings;
}

}  // namespace syncbn::app::doctor
