// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "syncbn/phases.hpp"

#include "kernels/scratch.hpp"

namespace syncbn {

struct Scratch::Impl {
  static Impl& of(Scratch& scratch) { return *scratch.impl_; }

  /// Returns so many doubles in the CPU's memory.
  double* doubles(std::size_t count);
  /// Returns so many bytes on the device, aligned to 256. Memory that was too small, or on another
  /// device, is kept, as a captured graph may use it.
  void* on_device(std::size_t bytes, Device device);

  kernels::Scratch kernels;
  Allocate allocate;

 private:
  std::vector<double> doubles_;
  std::shared_ptr<void> device_memory_;
  Device device_;
  std::size_t device_bytes_ = 0;
  std::vector<std::shared_ptr<void>> outgrown_;
};

}  // namespace syncbn
