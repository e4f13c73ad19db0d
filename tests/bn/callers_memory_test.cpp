// SPDX-License-Identifier: Apache-2.0
//
// A layer uses memory of the caller's in place of its own: parameters and running statistics of any
// float type, a record's arrays, and what it allocates.

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/place_of_test.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"

namespace syncbn {
namespace {

using test::PlaceOfTest;
using test::Tensor;
using testing::ElementsAreArray;
using testing::HasSubstr;

constexpr std::int64_t channels = 5;
constexpr std::size_t length = channels;

/// [C] values of a type, in the memory of a place.
class Values {
 public:
  Values(const PlaceOfTest& place, DType dtype, double value)
      : tensor_(filled(dtype, value)), placed_(place, tensor_) {}

  ArrayView view() {
    const TensorView all = placed_.view();
    return {all.data(), all.dtype(), channels, all.device()};
  }
  std::vector<double> get() {
    const Tensor now = placed_.fetch();
    std::vector<double> values;
    for (std::int64_t c = 0; c < channels; ++c) {
      values.push_back(now.at(0, c, 0));
    }
    return values;
  }

 private:
  static Tensor filled(DType dtype, double value) {
    Tensor tensor(dtype, {1, channels, 1}, Layout::channels_first);
    for (std::int64_t c = 0; c < channels; ++c) {
      tensor.set(0, c, 0, value);
    }
    return tensor;
  }

  Tensor tensor_;
  test::PlacedTensor placed_;
};

/// What a layer keeps, of the given types.
struct Kept {
  Values weight, bias, weight_grad, bias_grad, running_mean, running_var;

  Kept(const PlaceOfTest& place, DType parameters, DType statistics)
      : weight(place, parameters, 1.5),
        bias(place, parameters, -0.25),
        weight_grad(place, parameters, 0),
        bias_grad(place, parameters, 0),
        running_mean(place, statistics, 0),
        running_var(place, statistics, 1) {}

  LayerMemory memory() {
    return {.weight = weight.view(),
            .bias = bias.view(),
            .weight_grad = weight_grad.view(),
            .bias_grad = bias_grad.view(),
            .running_mean = running_mean.view(),
            .running_var = running_var.view()};
  }
};

/// A step of the layer with drawn tensors. Returns y and dx.
std::vector<Tensor> step(const PlaceOfTest& place, BatchNorm& layer, ForwardRecord& record,
                         std::uint64_t number, int rank) {
  const Shape shape{3, channels, 7};
  const auto drawn = [&](std::uint64_t seed, double mean) {
    return Tensor::normal(DType::f32, shape, Layout::channels_first,
                          100 * number + 10 * seed + static_cast<std::uint64_t>(rank), mean);
  };
  test::PlacedTensor x(place, drawn(1, 0.5)), dy(place, drawn(2, 0.1));
  test::PlacedTensor y(place, drawn(3, 0)), dx(place, drawn(4, 0));
  layer.forward(x.view(), y.view(), record);
  layer.backward(record, x.view(), dy.view(), dx.view());
  return {y.fetch(), dx.fetch()};
}

/// Expects values of a type that are at most so many of its roundings apart from the others.
void expect_rounded(const std::vector<double>& actual, const std::vector<double>& expected,
                    DType dtype, double roundings) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t c = 0; c < actual.size(); ++c) {
    EXPECT_NEAR(actual[c], expected[c],
                roundings * test::epsilon(dtype) * (std::fabs(expected[c]) + 0x1p-10))
        << "of channel " << c;
  }
}

class CallersMemory : public testing::TestWithParam<test::PlaceKind> {
 protected:
  void SetUp() override {
    if (const std::string why = test::why_not(GetParam()); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, CallersMemory, testing::ValuesIn(test::places()),
                         [](const auto& of) { return test::name_of(of.param); });

// With doubles the same bits; else what the layer's own give, rounded after every step.
TEST_P(CallersMemory, TakesTheLayersPlaceInEveryType) {
  test::on_ranks([](const Communicator& ranks) {
    for (const DType parameters : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
      for (const DType statistics : {DType::f64, DType::f32, DType::bf16}) {
        SCOPED_TRACE(std::string(to_string(parameters)) + ", " +
                     std::string(to_string(statistics)));
        const PlaceOfTest place(GetParam(), ranks);
        Kept kept(place, parameters, statistics);
        Kept doubles(place, DType::f64, DType::f64);
        BatchNorm layer = place.layer(channels, {.name = "a"}, kept.memory());
        BatchNorm exemplar = place.layer(channels, {.name = "b"}, doubles.memory());
        ForwardRecord record, exemplar_record;
        constexpr int steps = 3;
        for (int i = 0; i < steps; ++i) {
          const auto number = static_cast<std::uint64_t>(i);
          const std::vector<Tensor> actual = step(place, layer, record, number, ranks.rank());
          const std::vector<Tensor> expected =
              step(place, exemplar, exemplar_record, number, ranks.rank());
          if (statistics == DType::f64) {
            // The parameters' values are exact in every type, so the tensors are the same.
            EXPECT_EQ(actual[0], expected[0]);
            EXPECT_EQ(actual[1], expected[1]);
          }
        }
        expect_rounded(kept.running_mean.get(), doubles.running_mean.get(), statistics, steps);
        expect_rounded(kept.running_var.get(), doubles.running_var.get(), statistics, steps);
        // Sums of 21 terms for each rank and step, each of them rounded once. On a device another
        // pivot, which follows from the running mean, rounds the terms of float otherwise.
        const DType terms =
            statistics == DType::f64 || parameters != DType::f64 ? parameters : DType::f32;
        expect_rounded(kept.weight_grad.get(), doubles.weight_grad.get(), terms, 21 * steps);
        expect_rounded(kept.bias_grad.get(), doubles.bias_grad.get(), terms, 21 * steps);
        EXPECT_EQ(kept.weight.get(), std::vector<double>(length, 1.5));
        EXPECT_TRUE(layer.weight().empty() && layer.running_mean().empty());
      }
    }
  });
}

TEST_P(CallersMemory, GivesTheBitsOfTheLayersOwn) {
  test::on_ranks([](const Communicator& ranks) {
    const PlaceOfTest place(GetParam(), ranks);
    Values running_mean(place, DType::f64, 0), running_var(place, DType::f64, 1);
    BatchNorm own = place.layer(channels, {.name = "a"});
    BatchNorm callers =
        place.layer(channels, {.name = "b"},
                    {.running_mean = running_mean.view(), .running_var = running_var.view()});
    ForwardRecord record, other;
    for (std::uint64_t i = 0; i < 3; ++i) {
      EXPECT_EQ(step(place, own, record, i, ranks.rank()),
                step(place, callers, other, i, ranks.rank()));
    }
    EXPECT_THAT(running_mean.get(), ElementsAreArray(place.fetch(own.running_mean())));
    EXPECT_THAT(running_var.get(), ElementsAreArray(place.fetch(own.running_var())));
    EXPECT_THAT(place.fetch(callers.weight_grad()),
                ElementsAreArray(place.fetch(own.weight_grad())));
  });
}

TEST_P(CallersMemory, CanBeExchangedBetweenSteps) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  Kept first(place, DType::f32, DType::f32), second(place, DType::bf16, DType::f32);
  BatchNorm layer = place.layer(channels, {}, first.memory());
  ForwardRecord record;
  step(place, layer, record, 0, 0);
  const std::vector<double> gradient = first.weight_grad.get();
  layer.use({.weight_grad = second.weight_grad.view(), .bias_grad = second.bias_grad.view()});
  step(place, layer, record, 0, 0);
  EXPECT_EQ(first.weight_grad.get(), gradient);
  expect_rounded(second.weight_grad.get(), gradient, DType::bf16, 1);
  layer.zero_grad();
  EXPECT_EQ(second.weight_grad.get(), std::vector<double>(length, 0));
}

TEST_P(CallersMemory, IsSavedAndLoadedAsDoubles) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  Kept kept(place, DType::f16, DType::f32);
  BatchNorm layer = place.layer(channels, {}, kept.memory());
  ForwardRecord record;
  step(place, layer, record, 0, 0);
  StateDict state;
  layer.save_state(state);
  EXPECT_EQ(state.tensors["running_mean"], StateTensor::from(kept.running_mean.get()));
  state.tensors["weight"] = StateTensor::from(std::vector<double>(length, 1.0 / 3));
  layer.load_state(state);
  EXPECT_THAT(kept.weight.get()[0], testing::DoubleNear(1.0 / 3, test::epsilon(DType::f16)));
  const std::vector<double> before = kept.weight.get();
  state.tensors["weight"] = StateTensor::from(std::vector<double>(length, 1e6));  // beyond f16
  EXPECT_THROW(layer.load_state(state), FileError);
  EXPECT_EQ(kept.weight.get(), before);
}

TEST_P(CallersMemory, HoldsARecord) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  const std::size_t doubles = ForwardRecord::length(channels);
  test::PlacedTensor memory(place, Tensor(DType::f64, {1, static_cast<std::int64_t>(doubles), 1},
                                          Layout::channels_first));
  auto* const first = static_cast<double*>(memory.view().data());
  ForwardRecord record(first, channels, place.device()), own;
  BatchNorm layer = place.layer(channels), twin = place.layer(channels);
  EXPECT_EQ(step(place, layer, record, 0, 0), step(place, twin, own, 0, 0));
  EXPECT_EQ(record.mean().data(), first);
  EXPECT_THAT(place.fetch(record.invstd()), ElementsAreArray(place.fetch(own.invstd())));
  EXPECT_EQ(place.fetch(record.count()), std::vector<double>{21});
  BatchNorm wider = place.layer(channels + 1);
  test::PlacedTensor x(place, Tensor(DType::f32, {2, channels + 1, 1}, Layout::channels_first));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] { wider.forward(x.view(), x.view(), record); }),
              HasSubstr("the record's memory is for 5 channels"));
  EXPECT_FALSE(record.is_empty());
  EXPECT_THROW(ForwardRecord(nullptr, channels), InvalidArgument);
  EXPECT_THROW(ForwardRecord(first, 0), InvalidArgument);
  EXPECT_THROW(ForwardRecord(first, Shape::most_channels + 1), InvalidArgument);
  EXPECT_EQ(ForwardRecord::length(-1), 0);
  if (!place.device().is_cpu()) {
    std::vector<double> hosts(doubles);
    EXPECT_THAT(test::failure_of<InvalidArgument>(
                    [&] { ForwardRecord(hosts.data(), channels, place.device()); }),
                HasSubstr("not in the memory of cuda:0"));
  }
}

TEST_P(CallersMemory, OverlapsNothingThatACallWrites) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  const Tensor drawn = Tensor::normal(DType::f64, {3, channels, 7}, Layout::channels_first, 1);
  test::PlacedTensor x(place, drawn), y(place, drawn);
  auto* const inside = static_cast<double*>(y.view().data());
  ForwardRecord within(inside, channels, place.device()), record;
  BatchNorm layer = place.layer(channels);
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] { layer.forward(x.view(), y.view(), within); }),
              HasSubstr("y overlaps the record"));
  const auto view = [&](std::size_t at) {
    return ArrayView(inside + at, DType::f64, channels, place.device());
  };
  BatchNorm sharing = place.layer(channels, {}, {.weight = view(0), .bias = view(length)});
  EXPECT_THAT(
      test::failure_of<InvalidArgument>([&] { sharing.forward(x.view(), y.view(), record); }),
      HasSubstr("y overlaps weight"));
  EXPECT_THAT(test::failure_of<InvalidArgument>(
                  [&] { place.layer(channels, {}, {.weight = view(0), .bias = view(0)}); }),
              HasSubstr("bias overlaps weight"));
}

TEST_P(CallersMemory, IsNeededBeforeAnythingIsExchanged) {
  test::on_ranks([](const Communicator& ranks) {
    const PlaceOfTest place(GetParam(), ranks);
    bool throws = false;
    const auto allocate = [&](std::size_t bytes) {
      if (throws) {
        throw std::bad_alloc();
      }
      return place.allocate(bytes);
    };
    BatchNorm layer = place.layer(channels, {.name = "bn1"}, {.allocate = allocate});
    ForwardRecord record, later;
    step(place, layer, record, 0, ranks.rank());
    const std::vector<double> mean = place.fetch(layer.running_mean());
    throws = true;
    Tensor drawn(DType::f32, {3, channels, 7}, Layout::channels_first);
    test::PlacedTensor x(place, drawn);
    EXPECT_THROW(layer.forward(x.view(), x.view(), later), std::bad_alloc);
    EXPECT_TRUE(later.is_empty());
    EXPECT_EQ(place.fetch(layer.running_mean()), mean);
    throws = false;
    step(place, layer, later, 1, ranks.rank());
    EXPECT_NE(place.fetch(layer.running_mean()), mean);
  });
}

TEST_P(CallersMemory, IsNotTakenFromAFunctionThatGivesNone) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  const auto none = [](std::size_t) { return std::shared_ptr<void>(); };
  EXPECT_THAT(
      test::failure_of<InvalidArgument>([&] { place.layer(channels, {}, {.allocate = none}); }),
      HasSubstr("is null"));
  BatchNorm layer = place.layer(channels);
  EXPECT_THROW(layer.use({.allocate = none}), InvalidArgument);
}

TEST_P(CallersMemory, ThatIsRefusedLeavesNoLayerCounted) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  Values weight(place, DType::f32, 1);
  EXPECT_THROW(place.layer(channels, {}, {.weight = weight.view()}), InvalidArgument);
  EXPECT_EQ(place.layer(channels).options().name, "batch_norm.0");
}

TEST_P(CallersMemory, IsAllocatedByTheCaller) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  const auto in_use = std::make_shared<int>(0);
  const auto allocate = [&place, in_use](std::size_t bytes) -> std::shared_ptr<void> {
    ++*in_use;
    const std::shared_ptr<void> memory = place.allocate(bytes);
    return {memory.get(), [memory, in_use](void*) { --*in_use; }};
  };
  ForwardRecord record, twins;
  {
    BatchNorm layer = place.layer(channels, {}, {.allocate = allocate});
    BatchNorm twin = place.layer(channels);
    EXPECT_EQ(step(place, layer, record, 0, 0), step(place, twin, twins, 0, 0));
    EXPECT_GE(*in_use, 2);  // what the layer keeps, and the record
  }
  EXPECT_EQ(*in_use, 1);  // the record outlives the layer
  record = ForwardRecord();
  EXPECT_EQ(*in_use, 0);
}

TEST_P(CallersMemory, IsRefusedIfItDoesNotFit) {
  const PlaceOfTest place(GetParam(), Communicator::self());
  Values values(place, DType::f32, 1), other(place, DType::f32, 1);
  const auto refusal = [&](const LayerMemory& memory, BatchNormOptions options = {}) {
    return test::failure_of<InvalidArgument>([&] { place.layer(channels, options, memory); });
  };
  EXPECT_THAT(refusal({.weight = values.view()}), HasSubstr("Give both, or neither"));
  EXPECT_THAT(refusal({.weight = values.view(), .bias = other.view()}, {.affine = false}),
              HasSubstr("has no weight and bias"));
  const ArrayView view = values.view();
  const ArrayView shorter(view.data(), view.dtype(), channels - 1, view.device());
  EXPECT_THAT(refusal({.weight = shorter, .bias = other.view()}), HasSubstr("weight has 4 values"));
  const ArrayView elsewhere(view.data(), view.dtype(), channels,
                            place.device().is_cpu() ? Device::cuda(0) : Device::cpu());
  EXPECT_THAT(refusal({.running_mean = elsewhere, .running_var = other.view()}),
              HasSubstr("running_mean is on"));
  const ArrayView odd(static_cast<std::byte*>(view.data()) + 1, view.dtype(), channels,
                      view.device());
  EXPECT_THAT(refusal({.weight = other.view(), .bias = odd}), HasSubstr("bias begins 1 bytes"));

  Kept kept(place, DType::f32, DType::f32);
  BatchNorm layer = place.layer(channels, {}, kept.memory());
  EXPECT_THROW(layer.use({.weight = other.view(), .bias = odd}), InvalidArgument);
  ForwardRecord record;
  step(place, layer, record, 0, 0);
  EXPECT_NE(kept.weight_grad.get(), std::vector<double>(length, 0));
}

}  // namespace
}  // namespace syncbn
