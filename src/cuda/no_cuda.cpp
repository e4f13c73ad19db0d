// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "cuda/capture.hpp"
#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/event.hpp"
#include "cuda/graph.hpp"
#include "cuda/pinned_buffer.hpp"

namespace syncbn::cuda {
namespace {

[[noreturn]] void refuse(const char* what) {
  throw NotConfigured(std::string(what) +
                      " (built without CUDA). Configure with -DSYNCBN_CUDA=ON.");
}

}  // namespace

void require_cuda() {
  refuse("no CUDA device");
}
int device_count() {
  return 0;
}
int current_device() {
  refuse("no CUDA device");
}
void choose_device(int) {
  refuse("no device to choose");
}
DeviceProperties properties_of(int) {
  refuse("no device to describe");
}
std::string bus_address(int) {
  refuse("no device to describe");
}
std::string runtime_version() {
  refuse("no version of CUDA");
}
std::string driver_version() {
  refuse("no version of CUDA");
}
OnDevice::OnDevice(int device) : before_(device) {
  refuse("no device to choose");
}
OnDevice::~OnDevice() {
  static_cast<void>(before_);  // clang calls it unused otherwise
}

// Without CUDA no buffer has memory, so there is nothing to be done with it.

DeviceBuffer::DeviceBuffer(std::size_t) {
  refuse("no device memory");
}
void DeviceBuffer::upload(std::span<const std::byte>, StreamView, std::size_t) {}
void DeviceBuffer::download(std::span<std::byte>, StreamView, std::size_t) const {}
void DeviceBuffer::copy(const DeviceBuffer&, std::size_t, StreamView, std::size_t, std::size_t) {}
void DeviceBuffer::clear(StreamView) {}
void FreeDevice::operator()(void*) const noexcept {}
void upload(std::span<const std::byte>, void*, StreamView) {}
void download(const void*, std::span<std::byte>, StreamView) {}
void clear(void*, std::size_t, StreamView) {}
bool is_memory_of(int, const void*) {
  return false;
}

PinnedBuffer::PinnedBuffer(std::size_t) {
  refuse("no pinned memory");
}
void FreePinned::operator()(void*) const noexcept {}

// There is no stream but the default one, on which nothing can be put, and no event.

void StreamView::synchronize() const {}
void DestroyStream::operator()(StreamHandle) const noexcept {}
Stream make_stream() {
  refuse("no stream");
}
bool is_capturing(StreamView) {
  return false;
}
Graph::Graph(StreamHandle, const std::function<void()>&) {
  refuse("no graph");
}
void Graph::replay(StreamHandle) const {}

Event::Event(Timing) {
  refuse("no event");
}
void Event::record(StreamView) {}
void Event::hold(StreamView) const {}
bool Event::is_done() const {
  return true;
}
void Event::synchronize() const {}
float Event::milliseconds_since(const Event&) const {
  return 0;
}
void DestroyEvent::operator()(CUevent_st*) const noexcept {}

}  // namespace syncbn::cuda
