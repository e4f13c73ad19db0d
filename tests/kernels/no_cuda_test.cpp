// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "kernels/cuda/cuda.hpp"
#include "support/failure.hpp"

namespace syncbn::kernels::cuda {
namespace {

TEST(NoCudaTest, SaysHowToGetIt) {
  EXPECT_NE(
      test::failure_of<NotConfigured>([&] { fingerprint({}, nullptr); }).find("SYNCBN_CUDA=ON"),
      std::string::npos);
}

}  // namespace
}  // namespace syncbn::kernels::cuda
