// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

namespace syncbn::app {

/// OpenMP threads that this process works with; 1 in a build without OpenMP.
int thread_count();

/// For the library and for oneDNN, which use the same OpenMP. Returns whether it is so now: without
/// OpenMP only 1 can be had.
bool set_thread_count(int threads);

/// Runs body(t, n) for t = 0 ... n-1, each on a thread of its own.
void on_all_threads(const std::function<void(int thread, int threads)>& body);

}  // namespace syncbn::app
