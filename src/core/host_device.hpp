// SPDX-License-Identifier: Apache-2.0
#pragma once

// For code that nvcc compiles for both sides, and any other compiler as it is.

#ifdef __CUDACC__
#define SYNCBN_HOST_DEVICE __host__ __device__
#else
#define SYNCBN_HOST_DEVICE
#endif

/// In front of a loop over registers, of a constant number of rounds.
#ifdef __CUDA_ARCH__
#define SYNCBN_UNROLL _Pragma("unroll")
#else
#define SYNCBN_UNROLL
#endif
