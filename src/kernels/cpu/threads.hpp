// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace syncbn::kernels::cpu {

/// Returns how many threads `on_threads` would use: as many as OpenMP says, but if that is its
/// default of a thread for each processor, no more than the CPU quota of the process's control
/// groups is worth. Returns 1 in a build without OpenMP.
int thread_count();

/// Calls body(context, t, n) for t = 0 ... n-1, each on a thread of its own.
void on_threads(void (*body)(const void* context, int thread, int threads), const void* context);

/// Calls body(t, n).
template <class Body>
void on_threads(const Body& body) {
  on_threads([](const void* erased, int thread,
                int threads) { (*static_cast<const Body*>(erased))(thread, threads); },
             &body);
}

}  // namespace syncbn::kernels::cpu
