// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "cuda/stream.hpp"

namespace syncbn::cuda {

/// Holds work of one stream, which can be put there again and again.
class Graph {
 public:
  /// Captures what `body` puts on the stream, which is not done then. What it throws ends the
  /// capture. The body must neither wait for the stream nor allocate memory.
  Graph(StreamHandle stream, const std::function<void()>& body);

  /// Puts the captured work on the stream. It uses the memory that it was captured with.
  void replay(StreamHandle stream) const;

 private:
  std::shared_ptr<void> graph_;
};

}  // namespace syncbn::cuda
