// SPDX-License-Identifier: Apache-2.0
#include "app/bench/device_tensors.hpp"

#include <algorithm>
#include <cstdint>

#include "app/bench/tensors.hpp"

namespace syncbn::app::bench {
namespace {

constexpr std::size_t device_cache_multiple = 4;
constexpr std::size_t most_device_sets = 256;

}  // namespace

DevicePool::DevicePool(const Shape& shape, DType dtype, Layout layout, int rank,
                       std::size_t cache_bytes, Device device)
    : shape_(shape), dtype_(dtype), layout_(layout), device_(device) {
  const std::size_t bytes = static_cast<std::size_t>(shape.size()) * size_of(dtype);
  const std::size_t sets =
      std::clamp(device_cache_multiple * cache_bytes / bytes + 1, std::size_t{1}, most_device_sets);
  const auto make = [&] { return cuda::DeviceBuffer(bytes); };
  const cuda::Stream stream = cuda::make_stream();
  const auto fill = [&](cuda::DeviceBuffer& tensor, std::uint64_t seed) {
    Tensor host(dtype, shape, layout);
    host.fill(seed);
    tensor.upload({static_cast<const std::byte*>(host.view().data()), bytes}, stream.get());
    cuda::StreamView(stream.get()).synchronize();
  };
  for (std::size_t i = 0; i < sets; ++i) {
    sets_.push_back({make(), make(), make(), make()});
    if (i == 0) {
      fill(sets_[0].x, 2 * static_cast<std::uint64_t>(rank));
      fill(sets_[0].dy, 2 * static_cast<std::uint64_t>(rank) + 1);
    } else {
      sets_[i].x.copy(sets_[0].x, bytes, stream.get());
      sets_[i].dy.copy(sets_[0].dy, bytes, stream.get());
    }
  }
  cuda::StreamView(stream.get()).synchronize();
}

DeviceTensors& DevicePool::next() {
  DeviceTensors& tensors = sets_[next_];
  next_ = (next_ + 1) % sets_.size();
  return tensors;
}

}  // namespace syncbn::app::bench
