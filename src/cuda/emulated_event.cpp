// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <future>
#include <memory>

#include "cuda/emulated.hpp"
#include "cuda/event.hpp"

struct CUevent_st {
  using Clock = std::chrono::steady_clock;
  /// When the marked place was reached; invalid before something is marked.
  std::shared_future<Clock::time_point> mark;
};

namespace syncbn::cuda {

using Clock = CUevent_st::Clock;

void DestroyEvent::operator()(CUevent_st* event) const noexcept {
  delete event;
}

Event::Event(Timing) : event_(new CUevent_st) {}

void Event::record(StreamView stream) {
  const auto reached = std::make_shared<std::promise<Clock::time_point>>();
  event_->mark = reached->get_future();
  put_on(stream, [reached] { reached->set_value(Clock::now()); });
}

void Event::hold(StreamView stream) const {
  if (event_->mark.valid()) {
    put_on(stream, [mark = event_->mark] { mark.wait(); });
  }
}

bool Event::is_done() const {
  return !event_->mark.valid() ||
         event_->mark.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

void Event::synchronize() const {
  if (event_->mark.valid()) {
    event_->mark.wait();
  }
}

float Event::milliseconds_since(const Event& begin) const {
  using Milliseconds = std::chrono::duration<float, std::milli>;
  return Milliseconds(event_->mark.get() - begin.event_->mark.get()).count();
}

}  // namespace syncbn::cuda
