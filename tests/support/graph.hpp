// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "syncbn/device_communicator.hpp"

namespace syncbn::test {

/// A graph of a CUDA device, or of an emulated one.
class Graph {
 public:
  /// Captures what `body` puts on the stream. What it throws ends the capture.
  Graph(CudaStream stream, const std::function<void()>& body);

  /// Puts it all on the stream.
  void replay(CudaStream stream) const;

 private:
  std::shared_ptr<void> graph_;
};

}  // namespace syncbn::test
