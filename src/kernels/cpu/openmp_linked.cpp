// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include "kernels/cpu/openmp.hpp"

namespace syncbn::kernels::cpu::openmp {

int processors() {
  return omp_get_num_procs();
}

int max_threads() {
  return omp_get_max_threads();
}

void parallel(int threads, void (*body)(const void* context, int thread, int threads),
              const void* context) {
#pragma omp parallel num_threads(threads)
  body(context, omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace syncbn::kernels::cpu::openmp
