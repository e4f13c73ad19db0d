// SPDX-License-Identifier: Apache-2.0
#include "cuda/graph.hpp"

#include <type_traits>

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"

namespace syncbn::cuda {
namespace {

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const noexcept { cudaGraphDestroy(graph); }
};
using Recorded = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph>;

/// Ends a capture without its graph. What has broken it is told by another error already.
void drop_capture(StreamHandle stream) noexcept {
  cudaGraph_t recorded = nullptr;
  cudaStreamEndCapture(stream, &recorded);
  cudaGetLastError();
  const Recorded dropped(recorded);
}

}  // namespace

Graph::Graph(StreamHandle stream, const std::function<void()>& body) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
  try {
    body();
  } catch (...) {
    drop_capture(stream);
    throw;
  }
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "ending a capture");
  const Recorded recorded(graph);
  cudaGraphExec_t instance = nullptr;
  check(cudaGraphInstantiate(&instance, recorded.get(), 0), "making a graph");
  graph_ = {instance, cudaGraphExecDestroy};
}

void Graph::replay(StreamHandle stream) const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_.get()), stream), "replaying a graph");
}

}  // namespace syncbn::cuda
