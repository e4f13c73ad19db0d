// SPDX-License-Identifier: Apache-2.0
#include "app/study/scale_identity.hpp"

#include <array>
#include <cmath>

#include <gtest/gtest.h>

namespace syncbn::app::study {
namespace {

constexpr std::array scales{0.001, 0.3, 1.0, 10.0, 1000.0};

TEST(ScaleIdentity, HoldsToRounding) {
  const auto errors = scale_errors(5, scales);
  ASSERT_EQ(errors.size(), scales.size());
  EXPECT_LT(worst_share_of_tolerance(errors), 1);
  for (const ScaleErrors& of_scale : errors) {
    for (const ScaleError& one :
         {of_scale.output, of_scale.input_gradient, of_scale.weight_gradient}) {
      EXPECT_LT(one.tolerance, 1e-8) << "a tolerance that anything meets proves nothing";
      EXPECT_EQ(one.error > 0, of_scale.scale != 1) << of_scale.scale;
    }
  }
}

TEST(ScaleIdentity, IsBrokenByEpsWhereVariancesAreSmall) {
  const auto errors = scale_errors(5, scales);
  EXPECT_GT(errors.front().output_with_eps, 1e-3);
  EXPECT_LT(errors.back().output_with_eps, 1e-6);
}

TEST(ScaleIdentity, IsBrokenByWhatIsNoNumber) {
  auto errors = scale_errors(5, scales);
  errors[1].input_gradient.error = std::nan("");
  EXPECT_TRUE(std::isinf(worst_share_of_tolerance(errors)));
}

}  // namespace
}  // namespace syncbn::app::study
