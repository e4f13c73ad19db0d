// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include <omp.h>

#include "core/cpu_quota.hpp"
#include "core/default_arithmetic.hpp"

#include "kernels/cpu/threads.hpp"

namespace syncbn::kernels::cpu {

namespace {

/// The number of threads that OpenMP starts by default, and the number that fits the CPU quota.
struct DefaultThreads {
  int of_openmp = omp_get_num_procs();
  int within_quota = std::getenv("OMP_NUM_THREADS") == nullptr
                         ? threads_within(cpu_quota(), of_openmp)
                         : of_openmp;
};

}  // namespace

int thread_count() {
  static const DefaultThreads by_default;
  const int threads = omp_get_max_threads();
  return threads == by_default.of_openmp ? by_default.within_quota : threads;
}

void on_threads(void (*body)(const void* context, int thread, int threads), const void* context) {
#pragma omp parallel num_threads(thread_count())
  {
    const DefaultArithmetic arithmetic;
    body(context, omp_get_thread_num(), omp_get_num_threads());
  }
}

}  // namespace syncbn::kernels::cpu
