// SPDX-License-Identifier: Apache-2.0
#include "syncbn/device_communicator.hpp"

#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/device/device_sum.hpp"
#include "comm/device/device_sums.hpp"
#include "comm/group/deadlines.hpp"
#include "cuda/device_buffer.hpp"

namespace syncbn {

DeviceCommunicator DeviceCommunicator::self() {
  return DeviceCommunicator(comm::self_sum());
}
DeviceCommunicator DeviceCommunicator::staged(Communicator host, Deadlines deadlines) {
  return DeviceCommunicator(comm::staged_sum(std::move(host), comm::validated(deadlines)));
}
DeviceCommunicator DeviceCommunicator::nccl(Communicator bootstrap, Deadlines deadlines) {
  return DeviceCommunicator(comm::nccl_sum(std::move(bootstrap), comm::validated(deadlines)));
}
DeviceCommunicator DeviceCommunicator::custom(Communicator host, AllReduce all_reduce,
                                              Deadlines deadlines, Abort abort) {
  return DeviceCommunicator(
      comm::custom_sum(host, std::move(all_reduce), comm::validated(deadlines), std::move(abort)));
}

Device DeviceCommunicator::device() const {
  return Device::cuda(sum_->device());
}
int DeviceCommunicator::rank() const {
  return sum_->rank();
}
int DeviceCommunicator::size() const {
  return sum_->size();
}

void DeviceCommunicator::all_reduce(double* values, std::size_t length, CudaStream stream) const {
  if (values == nullptr) {
    throw InvalidArgument("all_reduce of " + std::to_string(length) +
                          " values at a null pointer (device memory)");
  }
  if (length > 0 && !cuda::is_memory_of(sum_->device(), values)) {
    throw InvalidArgument("all_reduce of values that are not in the memory of " +
                          to_string(device()) +
                          ". Pass memory that is: of cudaMalloc, or of allocate_device_memory.");
  }
  sum_->all_reduce({.count = static_cast<std::int64_t>(length)}, {values, length}, stream);
}

void DeviceCommunicator::poll() const {
  sum_->poll();
}
void DeviceCommunicator::synchronize(CudaStream stream) const {
  sum_->synchronize(stream);
}

DeviceCommunicator DeviceCommunicator::split(int color) const {
  return DeviceCommunicator(sum_->split(color));
}

}  // namespace syncbn
