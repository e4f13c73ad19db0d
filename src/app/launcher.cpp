// SPDX-License-Identifier: Apache-2.0
//
// Launchers put these variables into the environment of the processes that they start:
//   Open MPI       OMPI_COMM_WORLD_SIZE
//   MPICH, Intel   PMI_SIZE; also srun --mpi=pmi2
//   MVAPICH2       MV2_COMM_WORLD_SIZE
//   PMIx           PMIX_RANK, and no size: also srun --mpi=pmix
//   srun           SLURM_STEP_NUM_TASKS
// An sbatch script, and what it starts without srun, has SLURM_NTASKS and SLURM_PROCID but not
// SLURM_STEP_NUM_TASKS. A shell of `srun -n 4 --pty` has that variable too, but counts as a single
// process; SLURM_PTY_PORT tells it apart.
//
// How many they have started on a host, and which of these a process is:
//   Open MPI       OMPI_COMM_WORLD_LOCAL_SIZE, OMPI_COMM_WORLD_LOCAL_RANK
//   MPICH, Intel   MPI_LOCALNRANKS, MPI_LOCALRANKID
//   MVAPICH2       MV2_COMM_WORLD_LOCAL_SIZE, MV2_COMM_WORLD_LOCAL_RANK
//   srun           SLURM_STEP_TASKS_PER_NODE ("2(x3),1" for 2, 2, 2 and 1), SLURM_NODEID,
//   SLURM_LOCALID
#include "app/launcher.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/own_mpiexec.hpp"

namespace syncbn::app {
namespace {

struct Launcher {
  const char* variable;
  const char* rank;  ///< the variable with the process's own number
  const char* name;
};

constexpr Launcher open_mpi = {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "Open MPI's mpirun"};
constexpr Launcher launchers[] = {
    open_mpi,
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MVAPICH's mpirun_rsh"},
    {"PMI_SIZE", "PMI_RANK", "MPICH's mpiexec, or one of its kind"}};
constexpr Launcher pmix = {"PMIX_RANK", "PMIX_RANK", "a launcher that speaks PMIx"};
constexpr Launcher slurm = {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun"};

/// Returns the variable's number, none if it is missing or no number.
std::optional<int> number_in(const Environment& environment, const char* variable) {
  const char* value = environment(variable);
  if (value == nullptr) {
    return std::nullopt;
  }
  const std::string_view text(value);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                  : std::nullopt;
}

/// Others are the processes that a launcher has started.
struct Others {
  int processes = 0;
  bool at_least = false;  ///< there may be more
  Launcher launcher;
  int value = 0;  ///< of its variable
};

std::optional<Others> find_others(const Environment& environment) {
  bool alone = false;
  for (const Launcher& launcher : launchers) {
    if (const auto size = number_in(environment, launcher.variable)) {
      if (*size > 1) {
        return Others{*size, false, launcher, *size};
      }
      alone = true;
    }
  }
  if (alone) {
    return std::nullopt;  // mpirun -n 1, perhaps within a step of srun that has more tasks
  }
  if (const auto rank = number_in(environment, pmix.variable); rank && *rank > 0) {
    return Others{*rank + 1, true, pmix, *rank};
  }
  const auto tasks = number_in(environment, slurm.variable);
  if (tasks && *tasks > 1 && environment("SLURM_PTY_PORT") == nullptr) {
    return Others{*tasks, false, slurm, *tasks};
  }
  return std::nullopt;
}

/// Returns the number of the node with this index, from 0, in a list of Slurm's: "2(x3),1".
std::optional<int> number_of_node(std::string_view list, int node) {
  while (!list.empty() && node >= 0) {
    const std::string entry(list.substr(0, list.find(',')));
    int number = 0;
    int nodes = 1;
    if (std::sscanf(entry.c_str(), "%d(x%d)", &number, &nodes) < 1) {
      return std::nullopt;
    }
    if (node < nodes) {
      return number;
    }
    node -= nodes;
    list.remove_prefix(std::min(entry.size() + 1, list.size()));
  }
  return std::nullopt;
}

std::string describe(const Others& others) {
  return fmt::format("{}{} processes by {} ({}={})", others.at_least ? "at least " : "",
                     others.processes, others.launcher.name, others.launcher.variable,
                     others.value);
}

/// Returns the beginning of a command by which processes with this MPI know of each other.
std::string right_start(const Others& others, std::string_view library) {
  const std::string number = others.at_least ? "RANKS" : fmt::format("{}", others.processes);
  if (others.launcher.variable == slurm.variable) {
    return fmt::format("srun --mpi={} -n {}", library.starts_with("Open MPI") ? "pmix" : "pmi2",
                       number);
  }
  return fmt::format("{} -n {}", own_mpiexec(), number);
}

}  // namespace

std::optional<std::string> other_processes(const Environment& environment) {
  const std::optional<Others> others = find_others(environment);
  return others ? std::optional(describe(*others)) : std::nullopt;
}

std::optional<RanksOfHost> ranks_of_this_host(const Environment& environment) {
  constexpr std::pair<const char*, const char*> count_and_rank[] = {
      {"OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
      {"MPI_LOCALNRANKS", "MPI_LOCALRANKID"},
      {"MV2_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"}};
  for (const auto& [count_variable, rank_variable] : count_and_rank) {
    const auto count = number_in(environment, count_variable);
    const auto rank = number_in(environment, rank_variable);
    if (count && rank) {
      return RanksOfHost{*count, *rank == 0};
    }
  }
  const char* tasks = environment("SLURM_STEP_TASKS_PER_NODE");
  const auto node = number_in(environment, "SLURM_NODEID");
  const auto rank = number_in(environment, "SLURM_LOCALID");
  if (tasks == nullptr || !node || !rank || environment("SLURM_PTY_PORT") != nullptr) {
    return std::nullopt;
  }
  const auto count = number_of_node(tasks, *node);
  return count ? std::optional(RanksOfHost{*count, *rank == 0}) : std::nullopt;
}

std::optional<Strangers> find_strangers(int size, const Environment& environment,
                                        std::string_view library, std::string_view command) {
  const std::optional<Others> others = size > 1 ? std::nullopt : find_others(environment);
  if (!others) {
    return std::nullopt;
  }
  const std::string started = fmt::format("started as {}", describe(*others));
  const bool first = number_in(environment, others->launcher.rank).value_or(0) == 0;
  if (library.empty()) {
    return Strangers{started + ", each of which would be alone (this build has no MPI)",
                     "Start one, or build with -DSYNCBN_MPI=ON.", first};
  }
  return Strangers{
      fmt::format("{}, but this build has {}, and so each would be alone", started, library),
      fmt::format("Start them with that library's own launcher, `{} {}`, or build with the "
                  "launcher's MPI.",
                  right_start(*others, library), command),
      first};
}

std::optional<Strangers> find_strangers_before_mpi(const Environment& environment,
                                                   std::string_view library,
                                                   std::string_view command) {
  const std::optional<Others> others = find_others(environment);
  const bool other_mpi = library.starts_with("MPICH") || library.starts_with("Intel(R) MPI");
  // Its own launcher may have been started in an environment that names another.
  if (environment("PMI_RANK") != nullptr || !others ||
      others->launcher.variable != open_mpi.variable || !other_mpi) {
    return std::nullopt;
  }
  return find_strangers(1, environment, library, command);
}

std::optional<Strangers> find_ranks_without_pmi(const Environment& environment,
                                                std::string_view library,
                                                std::string_view command) {
  const std::optional<Others> others = find_others(environment);
  if (!library.starts_with("Open MPI v4.") || !others ||
      others->launcher.variable != slurm.variable || environment(pmix.variable) != nullptr ||
      environment("PMI_RANK") != nullptr) {
    return std::nullopt;
  }
  return Strangers{
      fmt::format("started as {} without PMIx, by which {} finds that they belong together",
                  describe(*others), library),
      fmt::format("If MPI does not start, start them with `{} {}`. If `srun --mpi=list` has no "
                  "pmix, start mpirun, or "
                  "syncbn's launcher/run, in a batch script.",
                  right_start(*others, library), command),
      number_in(environment, slurm.rank).value_or(0) == 0};
}

void require_known_processes(int size, std::string_view library, std::string_view command) {
  const auto strangers = find_strangers(
      size, [](const char* name) { return std::getenv(name); }, library, command);
  if (strangers) {
    throw NotConfigured(fmt::format("{}. {}", strangers->problem, strangers->advice));
  }
}

std::string start_of_command(int size, const Environment& environment) {
  if (size == 1) {
    return "";
  }
  bool by_mpirun = false;
  for (const Launcher& launcher : launchers) {
    by_mpirun = by_mpirun || environment(launcher.variable) != nullptr;
  }
  const bool by_srun = !by_mpirun && environment(slurm.variable) != nullptr;
  return fmt::format("{} -n {} ", by_srun ? "srun" : "mpirun", size);
}

}  // namespace syncbn::app
