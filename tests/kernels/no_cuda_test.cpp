// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "kernels/cuda/cuda.hpp"

namespace syncbn::kernels::cuda {
namespace {

TEST(NoCudaTest, SaysHowToGetIt) {
  try {
    affine({}, nullptr);
    FAIL() << "not thrown";
  } catch (const NotConfigured& error) {
    EXPECT_NE(std::string(error.what()).find("SYNCBN_CUDA=ON"), std::string::npos);
  }
}

}  // namespace
}  // namespace syncbn::kernels::cuda
