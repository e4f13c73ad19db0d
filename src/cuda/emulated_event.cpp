// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <future>
#include <memory>

#include "syncbn/error.hpp"

#include "cuda/capture.hpp"
#include "cuda/emulated.hpp"
#include "cuda/event.hpp"

struct CUevent_st {
  using Clock = std::chrono::steady_clock;
  /// When the marked place was reached; invalid before something is marked.
  std::shared_future<Clock::time_point> mark;
  bool captured = false;  ///< the mark is part of a graph
};

namespace syncbn::cuda {

using Clock = CUevent_st::Clock;

namespace {

void refuse_captured(const CUevent_st& event, const char* doing) {
  if (event.captured) {
    throw DeviceError(std::string(doing) + " an event that was recorded in a capture");
  }
}

}  // namespace

void DestroyEvent::operator()(CUevent_st* event) const noexcept {
  delete event;
}

Event::Event(Timing) : event_(new CUevent_st) {}

void Event::record(StreamView stream) {
  event_->captured = is_capturing(stream);
  if (event_->captured) {
    return;
  }
  const auto reached = std::make_shared<std::promise<Clock::time_point>>();
  event_->mark = reached->get_future();
  put_on(stream, [reached] { reached->set_value(Clock::now()); });
}

void Event::hold(StreamView stream) const {
  refuse_captured(*event_, "holding a stream for");
  if (event_->mark.valid() && !is_left_out(Call::event_hold)) {
    copy_on(stream, [mark = event_->mark] { mark.wait(); });
  }
}

bool Event::is_done() const {
  refuse_captured(*event_, "looking at");
  return !event_->mark.valid() || is_left_out(Call::event_look) ||
         event_->mark.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

void Event::synchronize() const {
  refuse_captured(*event_, "waiting for");
  if (event_->mark.valid()) {
    event_->mark.wait();
  }
}

float Event::milliseconds_since(const Event& begin) const {
  using Milliseconds = std::chrono::duration<float, std::milli>;
  return Milliseconds(event_->mark.get() - begin.event_->mark.get()).count();
}

}  // namespace syncbn::cuda
