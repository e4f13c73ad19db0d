// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace syncbn::app {

/// An Environment returns the value of an environment variable, or null, as std::getenv does.
using Environment = std::function<const char*(const char* variable)>;

/// Finds out whether this process, which knows of no other, was started as one of several, and by
/// what: "2 processes by Open MPI's mpirun (OMPI_COMM_WORLD_SIZE=2)". Returns none if it was
/// started by itself, or if nothing in the environment tells.
std::optional<std::string> other_processes(const Environment& environment);

/// The ranks that a launcher has started on this process's host.
struct RanksOfHost {
  int count = 0;
  bool first = false;  ///< this process is the host's number 0
};

/// Returns none if nothing in the environment tells how many they are.
std::optional<RanksOfHost> ranks_of_this_host(const Environment& environment);

/// Strangers are processes that one launcher started and that do not know of each other.
struct Strangers {
  std::string problem;  ///< who started them, and what MPI this build has
  std::string advice;   ///< with the command that starts them as ranks
  bool first = true;    ///< this process is the launcher's number 0, or nothing numbers it
};

/// Returns what is wrong if `size`, the number of ranks that know of each other, is 1 although a
/// launcher has started several; else none. `library` is the MPI of this build, "" without one;
/// `command` is what was started: "syncbn check --quick".
std::optional<Strangers> find_strangers(int size, const Environment& environment,
                                        std::string_view library, std::string_view command);

/// The same before MPI starts, when the number of ranks is not known yet: returns what is wrong if
/// Open MPI's mpirun has started several processes of MPICH or Intel MPI. MPICH 5 would end them
/// with a message that does not name the mistake.
std::optional<Strangers> find_strangers_before_mpi(const Environment& environment,
                                                   std::string_view library,
                                                   std::string_view command);

/// Returns what may be wrong if srun has started several processes of Open MPI 4 without PMIx or
/// PMI (`srun` alone, where Slurm's MpiDefault is none). Unless Open MPI was built with Slurm's own
/// PMI, MPI_Init ends them, and advises to build Open MPI anew.
std::optional<Strangers> find_ranks_without_pmi(const Environment& environment,
                                                std::string_view library, std::string_view command);

/// Throws NotConfigured if there are strangers. Each would otherwise do the whole work alone and
/// write the same files.
void require_known_processes(int size, std::string_view library, std::string_view command);

/// Returns the beginning of a command that starts as many processes: "mpirun -n 4 ", or "srun -n 4
/// " if srun started these. For one process "".
std::string start_of_command(int size, const Environment& environment);

}  // namespace syncbn::app
