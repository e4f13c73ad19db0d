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
#include "app/launcher.hpp"

#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

#include "syncbn/error.hpp"

namespace syncbn::app {
namespace {

struct Launcher {
  const char* variable;
  const char* name;
};

constexpr Launcher launchers[] = {{"OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun"},
                                  {"MV2_COMM_WORLD_SIZE", "MVAPICH's mpirun_rsh"},
                                  {"PMI_SIZE", "MPICH's mpiexec, or one of its kind"}};
constexpr Launcher pmix = {"PMIX_RANK", "a launcher that speaks PMIx"};
constexpr Launcher slurm = {"SLURM_STEP_NUM_TASKS", "srun"};

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

std::string description(int processes, const Launcher& launcher, int value) {
  return fmt::format("{} processes by {} ({}={})", processes, launcher.name, launcher.variable,
                     value);
}

}  // namespace

std::optional<std::string> other_processes(const Environment& environment) {
  bool alone = false;
  for (const Launcher& launcher : launchers) {
    if (const auto size = number_in(environment, launcher.variable)) {
      if (*size > 1) {
        return description(*size, launcher, *size);
      }
      alone = true;
    }
  }
  if (alone) {
    return std::nullopt;  // mpirun -n 1, perhaps within a step of srun that has more tasks
  }
  if (const auto rank = number_in(environment, pmix.variable); rank && *rank > 0) {
    return "at least " + description(*rank + 1, pmix, *rank);
  }
  const auto tasks = number_in(environment, slurm.variable);
  if (tasks && *tasks > 1 && environment("SLURM_PTY_PORT") == nullptr) {
    return description(*tasks, slurm, *tasks);
  }
  return std::nullopt;
}

void require_known_processes(int size, std::string_view library) {
  if (size > 1) {
    return;
  }
  const std::optional<std::string> others =
      other_processes([](const char* name) { return std::getenv(name); });
  if (!others) {
    return;
  }
  const std::string started = fmt::format("started as {}, each of which would be alone", *others);
  if (library.empty()) {
    throw NotConfigured(fmt::format(
        "{} (this build has no MPI). Start one, or build with -DSYNCBN_MPI=ON.", started));
  }
  throw NotConfigured(
      fmt::format("{} (this build has {}, which that launcher did not reach). Start them with that "
                  "library's own mpirun, or with a kind of srun --mpi that it was built for; or "
                  "build with the launcher's MPI.",
                  started, library));
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
