// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "core/cpu_quota.hpp"
#include "core/default_arithmetic.hpp"

#include "kernels/cpu/openmp.hpp"
#include "kernels/cpu/threads.hpp"

namespace syncbn::kernels::cpu {

namespace {

/// The number of threads that OpenMP starts by default, and the number that fits the CPU quota.
struct DefaultThreads {
  int of_openmp = openmp::processors();
  int within_quota = std::getenv("OMP_NUM_THREADS") == nullptr
                         ? threads_within(cpu_quota(), of_openmp)
                         : of_openmp;
};

}  // namespace

int thread_count() {
  static const DefaultThreads by_default;
  const int threads = openmp::max_threads();
  return threads == by_default.of_openmp ? by_default.within_quota : threads;
}

void on_threads(void (*body)(const void* context, int thread, int threads), const void* context) {
  struct Call {
    void (*body)(const void*, int, int);
    const void* context;
  };
  const Call call{body, context};
  openmp::parallel(
      thread_count(),
      [](const void* erased, int thread, int threads) {
        const DefaultArithmetic arithmetic;
        const Call& of = *static_cast<const Call*>(erased);
        of.body(of.context, thread, threads);
      },
      &call);
}

}  // namespace syncbn::kernels::cpu
