// SPDX-License-Identifier: Apache-2.0
#include "cuda/emulated_graph.hpp"
#include "support/graph.hpp"

namespace syncbn::test {

Graph::Graph(CudaStream stream, const std::function<void()>& body) {
  stream->begin_capture();
  try {
    body();
  } catch (...) {
    stream->end_capture();
    throw;
  }
  graph_ = std::make_shared<cuda::EmulatedGraph>(stream->end_capture());
}

void Graph::replay(CudaStream stream) const {
  static_cast<const cuda::EmulatedGraph*>(graph_.get())->replay(*stream);
}

}  // namespace syncbn::test
