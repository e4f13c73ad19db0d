// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace syncbn::app {

/// Returns the number of processors that this process may run on.
int processor_count();

/// Returns which these are, "0-3,8", as proc/self/status below `root` has it; "" where there is no
/// such file.
std::string processor_list(const std::filesystem::path& root = "/");

/// Returns the number of OpenMP threads that this process works with; 1 in a build without OpenMP.
int thread_count();

/// Returns the number of OpenMP threads that a process should work with if OMP_NUM_THREADS does not
/// say: as many as OpenMP would start, one for each processor it may run on, divided by the
/// `sharers`, processes that may run on the same ones; but no more than its share of the CPU quota,
/// which its control groups grant to all `processes` of this program on its host.
int default_thread_count(int processes, int sharers);

/// Sets the number of OpenMP threads for the library and for oneDNN, which use the same OpenMP.
/// Returns whether it could: without OpenMP only 1 is possible.
bool set_thread_count(int threads);

/// Runs body(t, n) for t = 0 ... n-1, each on a thread of its own.
void on_all_threads(const std::function<void(int thread, int threads)>& body);

}  // namespace syncbn::app
