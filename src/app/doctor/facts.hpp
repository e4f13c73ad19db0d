// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace syncbn::app::doctor {

// Facts are what one rank sees of its process and its host. They are read locally, by the topics
// (processors.hpp and its like), and judged once rank 0 has those of all ranks.

/// Both are "" unless a launcher started processes that do not know of each other.
struct LaunchFacts {
  std::string problem;
  std::string advice;
};

struct ProcessorFacts {
  std::string online;           ///< the machine's processors: "0-63"; "" where not told
  std::string allowed;          ///< those that this rank may run on: "0-3,8"; "" where not told
  std::optional<double> quota;  ///< processors' worth of time of its control groups; none: no limit
  int threads = 1;              ///< OpenMP threads of this rank
  std::string governor;         ///< of frequencies: "powersave"; "" where not told
  std::string frequency_driver;
};

struct SharedMemoryFacts {
  std::string problem;  ///< why no file can be made in /dev/shm; "" if one can
  double bytes = 0;     ///< size of /dev/shm
  double free = 0;      ///< bytes of it that are free now
};

struct LimitFacts {
  std::optional<double> locked_bytes;  ///< of memory; none: no limit
  std::optional<double> open_files;    ///< none: no limit
  double files_now = 0;                ///< that are open in this rank
  std::vector<std::string> verbs;      ///< network devices that lock memory: "mlx5_0"
};

struct ClockFacts {
  std::string source;     ///< the kernel's clock source: "tsc"; "" where not told
  double read_cost = 0;   ///< of one read of the steady clock [s]
  double wall_clock = 0;  ///< what it showed when all ranks read it together [s since 1970]
};

/// What all ranks should have in common.
struct TraitFacts {
  std::string version;          ///< of syncbn
  std::string program;          ///< digest of the program's file
  std::string mpi;              ///< "Open MPI v4.1.4"; "" in a build without MPI
  std::string instruction_set;  ///< that the kernels use
  std::string kernel_release;
  std::map<std::string, std::string> environment{};  ///< variables that change results or speed
  std::map<std::string, std::string> data{};  ///< size and digest of each file of the data set
};

struct Interface {
  std::string name;
  std::string address;  ///< of IPv4
  int prefix = 32;
};

struct NetworkFacts {
  std::vector<Interface> interfaces;  ///< that are up and have an address, without the loopback's
  std::string chosen;                 ///< "btl_tcp_if_include=eth0", if Open MPI was told; else ""
};

struct CudaFacts {
  std::string build;                 ///< "cuda", "emulated" or "none"
  std::vector<std::string> devices;  ///< addresses of the devices that this rank can use
  std::string runtime;               ///< version: "13.0"
  std::string driver;                ///< newest CUDA that it knows: "12.4"; "" without a driver
  std::string problem;               ///< what CUDA said when it was asked; "" if nothing
  bool with_nccl = false;            ///< in this build
  std::string nccl;                  ///< version; "" if there is none that can be used
  std::string nccl_problem;          ///< why
};

struct Facts {
  std::string host;     ///< name
  std::string machine;  ///< the same for ranks, also in containers, that one kernel runs
  LaunchFacts launch;
  ProcessorFacts processors;
  SharedMemoryFacts shared_memory;
  LimitFacts limits;
  ClockFacts clock;
  TraitFacts traits;
  NetworkFacts network;
  CudaFacts cuda;
};

/// Turn facts into one line of text and back, for the way to rank 0.
std::string to_text(const Facts& facts);
Facts from_text(const std::string& text);

}  // namespace syncbn::app::doctor
