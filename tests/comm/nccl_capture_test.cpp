// SPDX-License-Identifier: Apache-2.0
//
// NCCL's sums on a stream that is being captured, which an emulated device has not.

#include <memory>
#include <type_traits>
#include <vector>

#include <cuda_runtime_api.h>

#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"

#include "comm/device_values.hpp"
#include "cuda/check.hpp"

namespace syncbn {
namespace {

using test::DeviceValues;

class NcclCaptureTest : public test::OnDeviceTest {};

struct DestroyGraph {
  void operator()(cudaGraph_t graph) const noexcept { cudaGraphDestroy(graph); }
  void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, DestroyGraph>;
using GraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroyGraph>;

// The first message is of the same kind as the captured one or not: either way the capture holds.
TEST_F(NcclCaptureTest, ASumCanBeCapturedAndReplayed) {
  for (const bool warmed_up : {true, false}) {
    const DeviceCommunicator group = DeviceCommunicator::nccl(Communicator::self());
    DeviceValues values(std::vector<double>(100, 2.0));
    if (warmed_up) {
      group.all_reduce(values.data(), values.length(), values.stream());
      group.synchronize(values.stream());
    }
    cuda::check(cudaStreamBeginCapture(values.stream(), cudaStreamCaptureModeThreadLocal),
                "beginning a capture");
    group.all_reduce(values.data(), values.length(), values.stream());
    cudaGraph_t recorded = nullptr;
    cuda::check(cudaStreamEndCapture(values.stream(), &recorded), "ending a capture");
    const Graph graph(recorded);
    cudaGraphExec_t instance = nullptr;
    cuda::check(cudaGraphInstantiate(&instance, graph.get(), 0), "making a graph");
    const GraphExec replay(instance);
    for (int step = 0; step < 5; ++step) {
      cuda::check(cudaGraphLaunch(replay.get(), values.stream()), "replaying a graph");
    }
    group.synchronize(values.stream());  // throws if the messages' count had stood still
    EXPECT_EQ(values.read(), std::vector<double>(100, 2.0));
  }
}

}  // namespace
}  // namespace syncbn
