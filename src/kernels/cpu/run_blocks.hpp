// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/cpu/partition.hpp"

namespace syncbn::kernels::cpu {

/// Calls body(context, i) once for every block i, from several threads if there is enough to do.
/// `body` must not throw.
void run_blocks(const Work& work, void (*body)(const void* context, std::int64_t i),
                const void* context);

/// Calls body(block) once for every block of a Planes or Columns.
template <class Partition, class Body>
void run_blocks(const Partition& partition, const Body& body) {
  struct Context {
    const Partition& partition;
    const Body& body;
  } context{partition, body};
  run_blocks(
      partition.work(),
      [](const void* erased, std::int64_t i) {
        const auto& of = *static_cast<const Context*>(erased);
        of.body(of.partition.block(i));
      },
      &context);
}

}  // namespace syncbn::kernels::cpu
