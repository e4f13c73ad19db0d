// SPDX-License-Identifier: Apache-2.0
#pragma once

// Marks functions that nvcc compiles for host and device, and any other compiler as they are.

#ifdef __CUDACC__
#define SYNCBN_HOST_DEVICE __host__ __device__
#else
#define SYNCBN_HOST_DEVICE
#endif

/// Stands in front of a loop over registers, of a constant number of rounds.
#ifdef __CUDA_ARCH__
#define SYNCBN_UNROLL _Pragma("unroll")
#else
#define SYNCBN_UNROLL
#endif
