// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The functions of an OpenMP runtime that the kernels' threads take. The library is linked with
/// the runtime (openmp_linked.cpp), or looks it up in its process (openmp_loaded.cpp).
namespace syncbn::kernels::cpu::openmp {

/// Returns the number of processors that the process may use; 1 where there is no runtime.
int processors();

/// Returns how many threads a parallel region of the calling thread has by default; 1 where there
/// is no runtime.
int max_threads();

/// Calls body(context, t, n) for t = 0 ... n-1, each on a thread of its own; n is at most
/// `threads`.
void parallel(int threads, void (*body)(const void* context, int thread, int threads),
              const void* context);

}  // namespace syncbn::kernels::cpu::openmp
