// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cuda/stream.hpp"

namespace syncbn::cuda {

/// Tells whether work put on `stream` becomes part of a graph instead of being done.
bool is_capturing(StreamView stream);

}  // namespace syncbn::cuda
