// SPDX-License-Identifier: Apache-2.0
#include "cuda/emulated_stream.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "core/default_arithmetic.hpp"

#include "cuda/capture.hpp"
#include "cuda/device.hpp"
#include "cuda/emulated.hpp"
#include "cuda/stream.hpp"

namespace syncbn::cuda {
namespace {

/// Streams holds all streams of the process, so that memory outlives the work that uses it.
class Streams {
 public:
  void add(CUstream_st* stream) {
    const std::scoped_lock lock(mutex_);
    all_.insert(stream);
  }
  void remove(CUstream_st* stream) {
    const std::scoped_lock lock(mutex_);
    all_.erase(stream);
  }
  void keep(const std::shared_ptr<void>& owner) {
    const std::scoped_lock lock(mutex_);
    for (CUstream_st* stream : all_) {
      stream->put_now([owner] {});
    }
  }

 private:
  std::mutex mutex_;
  std::set<CUstream_st*> all_;
};

Streams& streams() {
  static auto* const all = new Streams;  // memory may be freed while the process ends
  return *all;
}

/// Says whether streams are delayed, and by which seed the one that is made next.
std::atomic<bool> are_delayed = false;
std::atomic<std::uint32_t> next_seed = 0;

/// Returns the stream that stands for the default one of the current device.
CUstream_st* default_stream() {
  static std::mutex mutex;
  static auto* const of_device = new std::array<CUstream_st*, emulated_devices>{};
  const std::scoped_lock lock(mutex);
  CUstream_st*& stream = of_device->at(static_cast<std::size_t>(current_device()));
  if (stream == nullptr) {
    stream = new CUstream_st;  // is there until the process ends
  }
  return stream;
}

/// Returns the stream whose thread does what is put on `stream`; null if the caller does.
CUstream_st* behind(StreamHandle stream) {
  return stream == nullptr && are_delayed.load() ? default_stream() : stream;
}

/// Counts the streams that the thread is capturing.
thread_local int captures = 0;

}  // namespace

void delay_streams(std::uint32_t seed) {
  next_seed = seed;
  are_delayed = true;
}

void copy_on(StreamHandle stream, std::function<void()> work) {
  if (CUstream_st* const thread = behind(stream)) {
    thread->put(std::move(work));
  } else {
    const DefaultArithmetic arithmetic;
    work();
  }
}

void put_on(StreamHandle stream, std::function<void()> work) {
  if (stream != nullptr && stream->device() != current_device()) {
    throw DeviceError("work for device " + std::to_string(current_device()) +
                      " on a stream of device " + std::to_string(stream->device()) +
                      ". Make the stream's device current.");
  }
  copy_on(stream, std::move(work));
}

bool does_at_once(StreamHandle stream) {
  return behind(stream) == nullptr;
}

void keep_for_streams(const std::shared_ptr<void>& owner) {
  streams().keep(owner);
}

void refuse_in_capture(const char* doing) {
  if (captures > 0) {
    throw DeviceError(std::string(doing) + " while a stream is being captured");
  }
}

void StreamView::synchronize() const {
  if (CUstream_st* const thread = behind(stream_);
      thread != nullptr && !is_left_out(Call::stream_wait)) {
    thread->synchronize();
  }
}
void DestroyStream::operator()(StreamHandle stream) const noexcept {
  delete stream;
}
Stream make_stream() {
  return Stream(new CUstream_st);
}
bool is_capturing(StreamView stream) {
  return stream != nullptr && static_cast<StreamHandle>(stream)->is_capturing();
}

}  // namespace syncbn::cuda

CUstream_st::CUstream_st() : device_(syncbn::cuda::current_device()) {
  if (syncbn::cuda::are_delayed.load()) {
    random_.emplace(syncbn::cuda::next_seed.fetch_add(1));
  }
  thread_ = std::thread([this] { run(); });
  syncbn::cuda::streams().add(this);
}

CUstream_st::~CUstream_st() {
  syncbn::cuda::streams().remove(this);
  queue_.put(nullptr);  // ends the thread
  thread_.join();
}

void CUstream_st::put(Work work) {
  if (captured_) {
    captured_->push_back(std::move(work));
  } else {
    put_now(std::move(work));
  }
}

void CUstream_st::synchronize() {
  if (captured_) {
    throw syncbn::DeviceError("waiting for a stream that is being captured");
  }
  const auto reached = std::make_shared<std::promise<void>>();
  put_now([reached] { reached->set_value(); });
  reached->get_future().wait();
}

void CUstream_st::begin_capture() {
  captured_.emplace();
  ++syncbn::cuda::captures;
}

std::vector<CUstream_st::Work> CUstream_st::end_capture() {
  --syncbn::cuda::captures;
  return std::exchange(captured_, std::nullopt).value();
}

void CUstream_st::delay() {
  if (!random_) {
    return;
  }
  // Most work is not delayed; some by the time of a kernel, some by that of many.
  constexpr std::array<int, 8> microseconds = {0, 0, 0, 0, 0, 20, 20, 300};
  constexpr std::uint32_t rarely = 8;
  const std::uint32_t drawn = (*random_)() / 16;  // a generator's last bits are the least random
  if (drawn % rarely == 0) {
    std::this_thread::sleep_for(
        std::chrono::microseconds(microseconds.at(drawn / rarely % microseconds.size())));
  }
}

void CUstream_st::run() {
  const syncbn::DefaultArithmetic arithmetic;
  while (const Work work = queue_.take()) {
    delay();
    work();
  }
}
