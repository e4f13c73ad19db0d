// SPDX-License-Identifier: Apache-2.0
#include "app/own_mpiexec.hpp"

#include <dlfcn.h>
#include <filesystem>
#include <system_error>

#include "app/build_options.hpp"

namespace syncbn::app {
namespace {

/// Returns where the loaded MPI is installed: P of P/lib/libmpi.so.12. Empty without an MPI.
std::filesystem::path prefix_of_mpi() {
  Dl_info info{};
  void* const function = dlsym(RTLD_DEFAULT, "MPI_Init");
  if (function == nullptr || dladdr(function, &info) == 0) {
    return {};
  }
  std::error_code unused;
  return std::filesystem::canonical(info.dli_fname, unused).parent_path().parent_path();
}

}  // namespace

std::string own_mpiexec() {
  if (const std::filesystem::path prefix = prefix_of_mpi(); !prefix.empty()) {
    // Intel MPI's mpirun would start the first mpiexec.hydra of PATH.
    for (const char* name : {"mpiexec.hydra", "mpirun"}) {
      const std::filesystem::path path = prefix / "bin" / name;
      if (std::error_code unused; std::filesystem::exists(path, unused)) {
        return path.string();
      }
    }
  }
  std::error_code unused;
  return std::filesystem::exists(mpiexec, unused) ? mpiexec : "mpirun";
}

}  // namespace syncbn::app
