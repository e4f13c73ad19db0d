/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SYNCBN_TESTS_CAPI_SMALL_TENSOR_H
#define SYNCBN_TESTS_CAPI_SMALL_TENSOR_H

#include <math.h>
#include <stdint.h>

#include "syncbn/c/syncbn.h"

enum { N = 4, C = 3, S = 5, SIZE = N * C * S };

static inline float sample(int i) {
  return 2.0f + 1.5f * (float)sin(0.7 * i);
}

static inline syncbn_tensor tensor(float* data, int64_t n) {
  syncbn_tensor t = SYNCBN_TENSOR(data, SYNCBN_F32, SYNCBN_CHANNELS_FIRST, n, C, S);
  return t;
}

#endif
