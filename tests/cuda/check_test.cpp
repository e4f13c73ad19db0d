// SPDX-License-Identifier: Apache-2.0

// What needs no device.

#include "cuda/check.hpp"

#include <string>

#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "cuda/device.hpp"

namespace syncbn::cuda {
namespace {

TEST(CheckTest, AMessageSaysWhatWasDoneWhatFailedAndWhere) {
  EXPECT_NO_THROW(check(cudaSuccess, "breathing"));
  try {
    check(cudaErrorInvalidValue, "asking too much");
    FAIL() << "not thrown";
  } catch (const DeviceError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("CUDA failed asking too much (cudaErrorInvalidValue: "),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("check_test.cpp:"), std::string::npos) << message;
  }
}

TEST(DeviceTest, NoDeviceIsAnAnswer) {
  EXPECT_GE(device_count(), 0);
}

}  // namespace
}  // namespace syncbn::cuda
