// SPDX-License-Identifier: Apache-2.0
#pragma once

// These helpers check what the functions of syncbn/phases.hpp are given, and find where they
// compute.

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "syncbn/phases.hpp"

#include "bn/device/phases.hpp"
#include "bn/scratch.hpp"
#include "bn/validate.hpp"
#include "channels/channel_range.hpp"
#include "channels/floats.hpp"

namespace syncbn::bn {

/// Gives a call the scratch of its options, or one of its own.
class ScratchOf {
 public:
  explicit ScratchOf(const PhaseOptions& options)
      : own_(options.scratch == nullptr ? std::optional<Scratch>(std::in_place) : std::nullopt),
        used_(Scratch::Impl::of(own_ ? *own_ : *options.scratch)) {}

  Scratch::Impl& operator*() const { return used_; }
  Scratch::Impl* operator->() const { return &used_; }

 private:
  std::optional<Scratch> own_;
  Scratch::Impl& used_;
};

/// Calls body(on) with where a phase on a device computes. Scratch of the call's own is given back
/// when its work is done.
template <class Body>
void on_device(Device device, const PhaseOptions& options, Body body) {
  const ScratchOf scratch(options);
  body(OnDevice{device, options.stream, *scratch});
}

/// Requires that memory can be the device's, unless that is the CPU.
void require_all_held(Device device, std::initializer_list<Memory> all);

/// Requires sums [2C + 1] about a pivot [C], both aligned. Returns their channels.
channels::ChannelRange require_sums_about(std::span<const double> sums,
                                          std::span<const double> pivot);

Memory memory_of(std::string_view name, const ConstArrayView& array);

/// Return null for an array that is not there.
inline channels::ConstFloats to_floats(const ConstArrayView& array) {
  return array.empty() ? channels::ConstFloats()
                       : channels::ConstFloats(array.data(), array.dtype());
}
inline channels::Floats to_floats(const ArrayView& array) {
  return array.empty() ? channels::Floats() : channels::Floats(array.data(), array.dtype());
}

}  // namespace syncbn::bn
