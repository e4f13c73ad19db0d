// SPDX-License-Identifier: Apache-2.0
#pragma once

// This header runs the kernels for CUDA devices on the host: the same objects, block after block
// and in each phase thread after thread. Whether threads hand over within a phase, or blocks among
// each other, shows when they are taken in another order.

#include <cstdint>
#include <memory>

namespace syncbn::kernels::cuda {

enum class Order : std::uint8_t { forward, backward };

class HostBlock {
 public:
  HostBlock(std::int64_t index, int threads, Order order)
      : index_(index), threads_(threads), order_(order) {}

  std::int64_t index() const { return index_; }

  template <class Body>
  void every_thread(Body body) const {
    for (int i = 0; i < threads_; ++i) {
      body(order_ == Order::forward ? i : threads_ - 1 - i);
    }
  }

 private:
  std::int64_t index_;
  int threads_;
  Order order_;
};

/// Runs a kernel in the calling thread.
struct OnHost {
  Order order = Order::forward;

  template <class Kernel>
  void operator()(std::int64_t blocks, const Kernel& kernel, const char*) const {
    const auto shared = std::make_unique<typename Kernel::Shared>();
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t index = order == Order::forward ? i : blocks - 1 - i;
      kernel(HostBlock(index, Kernel::threads, order), *shared);
    }
  }
};

}  // namespace syncbn::kernels::cuda
