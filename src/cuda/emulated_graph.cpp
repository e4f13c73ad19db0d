// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "cuda/emulated.hpp"
#include "cuda/emulated_stream.hpp"
#include "cuda/graph.hpp"

namespace syncbn::cuda {
namespace {

using Captured = std::vector<CUstream_st::Work>;

}  // namespace

Graph::Graph(StreamHandle stream, const std::function<void()>& body) {
  stream->begin_capture();
  try {
    body();
  } catch (...) {
    stream->end_capture();
    throw;
  }
  graph_ = std::make_shared<Captured>(stream->end_capture());
}

void Graph::replay(StreamHandle stream) const {
  if (is_left_out(Call::graph_replay)) {
    return;
  }
  for (const CUstream_st::Work& each : *static_cast<const Captured*>(graph_.get())) {
    stream->put(each);
  }
}

}  // namespace syncbn::cuda
