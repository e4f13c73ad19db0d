// SPDX-License-Identifier: Apache-2.0
#include "comm/device/device_sums.hpp"
#include "cuda/device.hpp"
#include "cuda/stream.hpp"

namespace syncbn::comm {
namespace {

class SelfSum final : public DeviceSum {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(const Descriptor&, const DeviceMessageView&, Stream) override {}
  void poll() override {}
  void synchronize(Stream stream) override { syncbn::cuda::StreamView(stream).synchronize(); }
  std::unique_ptr<DeviceSum> split(int) override { return std::make_unique<SelfSum>(); }
};

}  // namespace

std::unique_ptr<DeviceSum> self_sum() {
  syncbn::cuda::require_cuda();
  return std::make_unique<SelfSum>();
}

}  // namespace syncbn::comm
