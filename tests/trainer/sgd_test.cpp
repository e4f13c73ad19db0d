// SPDX-License-Identifier: Apache-2.0
#include "trainer/sgd.hpp"

#include <vector>

#include <gtest/gtest.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

class SgdOfTwo : public testing::Test {
 protected:
  Parameter a_{"a", {2}, {1, 2}, {0, 0}};
  Parameter b_{"b", {1, 1}, {-1}, {0}};
  std::vector<Parameter*> both_{&a_, &b_};
};

TEST_F(SgdOfTwo, GathersMomentum) {
  Sgd sgd(both_, 0.5);
  sgd.step(std::vector<double>{1, 2, 4}, 0.25);
  EXPECT_EQ(a_.value, (std::vector<float>{0.75F, 1.5F}));
  EXPECT_EQ(b_.value, (std::vector<float>{-2}));
  sgd.step(std::vector<double>{0, 0, 2}, 0.25);  // velocities 0.5, 1, 4
  EXPECT_EQ(a_.value, (std::vector<float>{0.625F, 1.25F}));
  EXPECT_EQ(b_.value, (std::vector<float>{-3}));
}

TEST_F(SgdOfTwo, GoesOnFromItsState) {
  Sgd sgd(both_, 0.5);
  sgd.step(std::vector<double>{1, 2, 4}, 0.25);
  StateDict state;
  sgd.save_state(state);
  EXPECT_EQ(state.tensors.at("velocity.b").shape, (std::vector<std::int64_t>{1, 1}));
  Sgd other(both_, 0.5);
  other.load_state(state);
  other.step(std::vector<double>{0, 0, 2}, 0.25);
  EXPECT_EQ(b_.value, (std::vector<float>{-3}));
}

TEST_F(SgdOfTwo, RefusesTheStateOfOtherParameters) {
  StateDict state;
  Sgd sgd(both_, 0.5);
  EXPECT_THROW(sgd.load_state(state), FileError);
  sgd.save_state(state);
  state.tensors.at("velocity.a").shape = {1, 2};
  EXPECT_THROW(sgd.load_state(state), FileError);
}

}  // namespace
}  // namespace syncbn::trainer
