// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "cuda/stream.hpp"

struct CUevent_st;

namespace syncbn::cuda {

struct DestroyEvent {
  void operator()(CUevent_st* event) const noexcept;
};

/// Marks a place in a stream that others can wait for, or look at.
class Event {
 public:
  enum class Timing : bool { no, yes };

  /// Makes an event of the current device.
  explicit Event(Timing timing = Timing::no);

  /// Marks the work put on `stream` so far.
  void record(StreamView stream);
  /// Makes work put on `stream` from now on wait for what was marked.
  void hold(StreamView stream) const;
  /// Tells whether what was marked is done. Throws DeviceError if it failed.
  bool is_done() const;
  /// Waits for what was marked. Throws DeviceError if it failed.
  void synchronize() const;
  /// Returns the milliseconds from `begin`'s mark to this one. Both events have Timing::yes and are
  /// done.
  float milliseconds_since(const Event& begin) const;

 private:
  std::unique_ptr<CUevent_st, DestroyEvent> event_;
};

}  // namespace syncbn::cuda
