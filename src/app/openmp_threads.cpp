// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>

#include <omp.h>

#include "core/cpu_quota.hpp"

#include "app/threads.hpp"

namespace syncbn::app {

int processor_count() {
  return omp_get_num_procs();
}

int thread_count() {
  return omp_get_max_threads();
}

int default_thread_count(int processes, int sharers) {
  const int threads = omp_get_max_threads();
  return std::getenv("OMP_NUM_THREADS") == nullptr
             ? threads_within(cpu_quota(), std::max(1, threads / sharers), processes)
             : threads;
}

bool set_thread_count(int threads) {
  omp_set_num_threads(threads);
  return true;
}

void on_all_threads(const std::function<void(int thread, int threads)>& body) {
#pragma omp parallel
  body(omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace syncbn::app
