// SPDX-License-Identifier: Apache-2.0

// What needs no device.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/error.hpp"

#include "comm/nccl/check.hpp"
#include "support/failure.hpp"

namespace syncbn {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(NcclCheck, SaysWhatFailedAndWhere) {
  EXPECT_NO_THROW(comm::nccl::check(ncclSuccess, "breathing"));
  EXPECT_NO_THROW(comm::nccl::check(ncclInProgress, "breathing"));
  EXPECT_THAT(
      test::failure_of<CommError>([&] { comm::nccl::check(ncclInvalidUsage, "asking too much"); }),
      AllOf(HasSubstr("NCCL failed asking too much ("), HasSubstr("nccl_check_test.cpp:")));
}

}  // namespace
}  // namespace syncbn
