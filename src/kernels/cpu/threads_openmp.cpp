// SPDX-License-Identifier: Apache-2.0
#include <omp.h>

#include "kernels/cpu/threads.hpp"

namespace syncbn::kernels::cpu {

int thread_count() {
  return omp_get_max_threads();
}

void on_threads(void (*body)(const void* context, int thread, int threads), const void* context) {
#pragma omp parallel
  body(context, omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace syncbn::kernels::cpu
