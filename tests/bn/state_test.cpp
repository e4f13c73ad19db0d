// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/failure.hpp"
#include "support/scratch_directory.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::ScratchDirectory;
using testing::ElementsAre;
using testing::HasSubstr;

BatchNorm trained() {
  BatchNorm layer(3, Communicator::self());
  for (std::size_t c = 0; c < 3; ++c) {
    const auto value = static_cast<double>(c);
    layer.weight()[c] = 1.5 + value;
    layer.bias()[c] = -value / 3;
  }
  test::Tensor x = test::Tensor::normal(DType::f64, {4, 3, 2}, Layout::channels_first, 1, 2, 3);
  ForwardRecord record;
  layer.forward(x.view(), x.view(), record);
  return layer;
}

StateDict state_of(const BatchNorm& layer) {
  StateDict state;
  layer.save_state(state);
  return state;
}

TEST(State, RoundTripsThroughAFileToTheBit) {
  const ScratchDirectory scratch;
  const BatchNorm layer = trained();
  layer.save(scratch / "bn.safetensors");
  BatchNorm other(3, Communicator::self());
  other.load(scratch / "bn.safetensors");
  EXPECT_EQ(state_of(other), state_of(layer));
}

TEST(State, HasPyTorchsNames) {
  std::vector<std::string> names;
  StateDict state;
  trained().save_state(state, "layer1.0.bn1.");
  for (const auto& [name, tensor] : state.tensors) {
    names.push_back(name);
  }
  EXPECT_THAT(names, ElementsAre("layer1.0.bn1.bias", "layer1.0.bn1.num_batches_tracked",
                                 "layer1.0.bn1.running_mean", "layer1.0.bn1.running_var",
                                 "layer1.0.bn1.weight"));
}

TEST(State, TakesWhatPyTorchSaves) {
  // float parameters, and an integer scalar; values as safetensors.torch.save_file writes them.
  StateDict state;
  state.tensors["bn.weight"] = StateTensor::from(std::vector<float>{1, 2, 3});
  state.tensors["bn.bias"] = StateTensor::from(std::vector<float>{0.5F, 0, -1});
  state.tensors["bn.running_mean"] = StateTensor::from(std::vector<float>{4, 5, 6});
  state.tensors["bn.running_var"] = StateTensor::from(std::vector<float>{7, 8, 9});
  state.tensors["bn.num_batches_tracked"] = StateTensor::from(std::int64_t{42});
  BatchNorm layer(3, Communicator::self());
  layer.load_state(state, "bn.");
  EXPECT_THAT(layer.weight(), ElementsAre(1, 2, 3));
  EXPECT_THAT(layer.running_var(), ElementsAre(7, 8, 9));
  EXPECT_EQ(*layer.num_batches_tracked(), 42);
}

TEST(State, TakesACounterOfAnyTypeOrNone) {
  BatchNorm layer = trained();
  StateDict state = state_of(layer);
  StateTensor int32{StateDType::i32, {}, std::vector<std::byte>(4)};
  int32.bytes[0] = std::byte{42};
  state.tensors["num_batches_tracked"] = int32;
  layer.load_state(state);
  EXPECT_EQ(*layer.num_batches_tracked(), 42);
  state.tensors["num_batches_tracked"] = StateTensor::from(std::vector<float>{43});
  layer.load_state(state);
  EXPECT_EQ(*layer.num_batches_tracked(), 43);
  state.tensors.erase("num_batches_tracked");
  layer.load_state(state);
  EXPECT_EQ(*layer.num_batches_tracked(), 0);
}

TEST(State, UnrelatedTensorsOfAnyTypeDoNotMatter) {
  const ScratchDirectory scratch;
  StateDict state;
  trained().save_state(state, "bn.");
  state.tensors["w"] = {StateDType::other, {2, 2}, std::vector<std::byte>(4), "F8_E5M2"};
  save_safetensors(state, scratch / "model.safetensors");
  BatchNorm layer(3, Communicator::self());
  layer.load_state(load_safetensors(scratch / "model.safetensors"), "bn.");
  EXPECT_EQ(state_of(layer), state_of(trained()));
}

TEST(State, ADivergedLayerIsNotSavedAndCanBeLoadedInto) {
  const ScratchDirectory scratch;
  BatchNorm layer = trained();
  layer.save(scratch / "bn.safetensors");
  const StateDict good = state_of(layer);
  for (const double odd :
       {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    layer.running_var()[2] = odd;
    EXPECT_THAT(test::failure_of<FileError>([&] { state_of(layer); }),
                testing::AllOf(HasSubstr("'running_var'"), HasSubstr("value 2 is")));
    EXPECT_THAT(test::failure_of<FileError>([&] { layer.save(scratch / "bn.safetensors"); }),
                HasSubstr("diverged"));
    layer.load(scratch / "bn.safetensors");
    EXPECT_EQ(state_of(layer), good);
  }
}

TEST(State, ARefusedStateLeavesTheLayerAsItWas) {
  BatchNorm layer = trained();
  const StateDict before = state_of(layer);
  const auto refuses = [&](const char* name, const StateTensor& tensor, const char* why) {
    StateDict bad = before;
    bad.tensors[name] = tensor;
    EXPECT_THAT(test::failure_of<FileError>([&] { layer.load_state(bad); }), HasSubstr(why));
    EXPECT_EQ(state_of(layer), before);
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  refuses("weight", StateTensor::from(std::vector<double>{1, 2}),
          "'weight' has 1 axes and 2 values");
  refuses("running_mean", StateTensor::from(std::vector<double>{1, nan, 2}), "not finite");
  refuses("running_var", StateTensor::from(std::vector<double>{1, -1, 2}), "negative");
  refuses("bias", StateTensor::from(std::int64_t{3}), "is I64");
  refuses("num_batches_tracked", StateTensor::from(std::vector<double>{1.5}), "one whole number");
  refuses("num_batches_tracked", StateTensor::from(std::int64_t{-1}), "is -1");
  refuses("weight", {StateDType::other, {3}, std::vector<std::byte>(3), "F8_E4M3"}, "is F8_E4M3");

  StateDict incomplete = before;
  incomplete.tensors.erase("running_mean");
  EXPECT_THAT(test::failure_of<FileError>([&] { layer.load_state(incomplete); }),
              HasSubstr("'running_mean' is missing"));
  EXPECT_EQ(state_of(layer), before);
}

TEST(State, AFileOfSomethingElseIsRefused) {
  const ScratchDirectory scratch;
  StateDict state = state_of(trained());
  state.tensors["conv.weight"] = StateTensor::from(std::vector<float>{1});
  save_safetensors(state, scratch / "model.safetensors");
  BatchNorm layer(3, Communicator::self());
  EXPECT_THAT(test::failure_of<FileError>([&] { layer.load(scratch / "model.safetensors"); }),
              HasSubstr("conv.weight"));
  EXPECT_THAT(test::failure_of<FileError>([&] { layer.load(scratch / "none.safetensors"); }),
              HasSubstr("No such file"));
}

TEST(State, LayersWithoutParametersOrStatisticsSaveWhatTheyHave) {
  BatchNorm bare(3, Communicator::self(), {.affine = false, .track_running_stats = false});
  EXPECT_TRUE(state_of(bare).tensors.empty());
  BatchNorm statistics(3, Communicator::self(), {.affine = false});
  EXPECT_EQ(state_of(statistics).tensors.size(), 3u);
}

}  // namespace
}  // namespace syncbn
