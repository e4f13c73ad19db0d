// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "cuda/stream.hpp"

struct CUevent_st;

namespace syncbn::cuda {

struct DestroyEvent {
  void operator()(CUevent_st* event) const noexcept;
};

/// A place in a stream that others can wait for, or look at.
class Event {
 public:
  enum class Timing : bool { no, yes };

  /// On the current device.
  explicit Event(Timing timing = Timing::no);

  /// Marks the work put on `stream` so far.
  void record(StreamView stream);
  /// Work put on `stream` from now on waits for what was marked.
  void hold(StreamView stream) const;
  /// Whether what was marked is done. Throws DeviceError if it failed.
  bool is_done() const;
  /// Waits for it. Throws DeviceError if it failed.
  void synchronize() const;
  /// Milliseconds from `begin`'s mark to this one, both with Timing::yes and done.
  float milliseconds_since(const Event& begin) const;

 private:
  std::unique_ptr<CUevent_st, DestroyEvent> event_;
};

}  // namespace syncbn::cuda
