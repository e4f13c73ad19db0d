// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// Says in which order a thread does its blocks.
enum class Order : std::uint8_t {
  forward,
  backward,  ///< begins with memory that a pass forward has just left in the cache
};

/// Calls body(context, i) once for every block i, from several threads if there is enough to do.
/// Which of them does block i depends only on how many blocks and threads there are. `body` must
/// not throw.
void run_blocks(const Work& work, Order order, void (*body)(const void* context, std::int64_t i),
                const void* context);

/// Calls body(block) once for every block of a Planes or Columns.
template <class Partition, class Body>
void run_blocks(const Partition& partition, Order order, const Body& body) {
  struct Context {
    const Partition& partition;
    const Body& body;
  } context{partition, body};
  run_blocks(
      partition.work(), order,
      [](const void* erased, std::int64_t i) {
        const auto& of = *static_cast<const Context*>(erased);
        of.body(of.partition.block(i));
      },
      &context);
}

}  // namespace syncbn::kernels::cpu
