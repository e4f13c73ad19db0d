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

Recorded end_capture(StreamHandle stream) {
  cudaGraph_t recorded = nullptr;
  check(cudaStreamEndCapture(stream, &recorded), "ending a capture");
  return Recorded(recorded);
}

}  // namespace

Graph::Graph(StreamHandle stream, const std::function<void()>& body) {
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
  try {
    body();
  } catch (...) {
    end_capture(stream);
    throw;
  }
  const Recorded recorded = end_capture(stream);
  cudaGraphExec_t instance = nullptr;
  check(cudaGraphInstantiate(&instance, recorded.get(), 0), "making a graph");
  graph_ = {instance, cudaGraphExecDestroy};
}

void Graph::replay(StreamHandle stream) const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph_.get()), stream), "replaying a graph");
}

}  // namespace syncbn::cuda
