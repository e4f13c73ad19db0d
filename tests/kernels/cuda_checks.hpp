// SPDX-License-Identifier: Apache-2.0
#pragma once

// What is asked of the CUDA kernels, wherever they run.

#include <functional>

#include "kernels/problem.hpp"

namespace syncbn::test {

/// Called with nothing more to compute on `problem` than it is.
using OnProblem = std::function<void(const Problem& problem)>;

/// awkward_shapes, and shapes at the edges of how threads and blocks share the work, without
/// weights and with.
void on_cuda_problems(const TypeAndLayout& of, const OnProblem& body);

/// Against the reference, with every activation and source of it.
void expect_right_sums(const kernels::Kernels& kernels, const Problem& problem);
void expect_right_elements(const kernels::Kernels& kernels, const Problem& problem);

/// Of the same bits, NaNs aside.
void expect_same_results(const kernels::Kernels& a, const kernels::Kernels& b,
                         const Problem& problem);

}  // namespace syncbn::test
