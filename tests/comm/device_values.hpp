// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "syncbn/device_communicator.hpp"

#include "cuda/device.hpp"
#include "cuda/device_buffer.hpp"
#include "cuda/stream.hpp"

namespace syncbn::test {

/// Tests that are skipped where there is no device.
class OnDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) {
      GTEST_SKIP() << "SKIPPED: no CUDA device";
    }
  }
};

/// Values in device memory, and a stream to use them in.
class DeviceValues {
 public:
  explicit DeviceValues(std::vector<double> values)
      : host_(std::move(values)),
        stream_(cuda::make_stream()),
        buffer_(host_.size() * sizeof(double)) {
    write();
  }

  CudaStream stream() const { return stream_.get(); }
  double* data() const { return buffer_.as<double>(); }
  std::size_t length() const { return host_.size(); }

  /// Puts the first values there again.
  void write() { buffer_.upload(std::as_bytes(std::span(host_)), stream()); }

  /// What is there when the stream is done.
  std::vector<double> read() const {
    std::vector<double> values(length());
    buffer_.download(std::as_writable_bytes(std::span(values)), stream());
    cuda::StreamView(stream()).synchronize();
    return values;
  }

 private:
  std::vector<double> host_;
  cuda::Stream stream_;
  cuda::DeviceBuffer buffer_;
};

}  // namespace syncbn::test
