// SPDX-License-Identifier: Apache-2.0
#pragma once

// Streams of the emulated device can be captured as CUDA's are, one stream in a graph.

#include <cstddef>
#include <utility>
#include <vector>

#include "cuda/emulated_stream.hpp"

namespace syncbn::cuda {

/// Holds what was put on a stream while it was captured.
class EmulatedGraph {
 public:
  explicit EmulatedGraph(std::vector<CUstream_st::Work> work) : work_(std::move(work)) {}

  std::size_t size() const { return work_.size(); }
  /// Puts it all on a stream.
  void replay(CUstream_st& stream) const {
    for (const CUstream_st::Work& each : work_) {
      stream.put(each);
    }
  }

 private:
  std::vector<CUstream_st::Work> work_;
};

}  // namespace syncbn::cuda
