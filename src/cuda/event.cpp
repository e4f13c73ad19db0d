// SPDX-License-Identifier: Apache-2.0
#include "cuda/event.hpp"

#include "cuda/check.hpp"

namespace syncbn::cuda {

void DestroyEvent::operator()(CUevent_st* event) const noexcept {
  cudaEventDestroy(event);
}

Event::Event(Timing timing) {
  cudaEvent_t event = nullptr;
  const unsigned flags = timing == Timing::yes ? cudaEventDefault : cudaEventDisableTiming;
  check(cudaEventCreateWithFlags(&event, flags), "creating an event");
  event_.reset(event);
}

void Event::record(StreamView stream) {
  check(cudaEventRecord(event_.get(), stream), "recording an event");
}

void Event::hold(StreamView stream) const {
  check(cudaStreamWaitEvent(stream, event_.get(), cudaEventWaitDefault),
        "letting a stream wait for an event");
}

bool Event::is_done() const {
  const cudaError_t status = cudaEventQuery(event_.get());
  if (status == cudaErrorNotReady) {
    cudaGetLastError();  // an answer, not an error
    return false;
  }
  check(status, "looking at an event");
  return true;
}

void Event::synchronize() const {
  check(cudaEventSynchronize(event_.get()), "waiting for an event");
}

float Event::milliseconds_since(const Event& begin) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin.event_.get(), event_.get()),
        "taking the time between events");
  return milliseconds;
}

}  // namespace syncbn::cuda
