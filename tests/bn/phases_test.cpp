// SPDX-License-Identifier: Apache-2.0
//
// The phases with the host's own all-reduce give the bits of the layer.

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
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

using test::Tensor;

TEST(Phases, WithAnAllReduceInBetweenAreTheLayer) {
  test::on_ranks([](const Communicator& group) {
    for (const double mean : {0.5, 1e4}) {
      const Shape shape{3, 5, 7};
      const Tensor x =
          Tensor::normal(DType::f32, shape, Layout::channels_first, 1, mean, 1, 3 * group.rank());
      const Tensor dy =
          Tensor::normal(DType::f32, shape, Layout::channels_first, 2, 0, 1, 3 * group.rank());
      Tensor y(DType::f32, shape, x.layout()), dx(DType::f32, shape, x.layout());
      Tensor layer_y = y, layer_dx = dx;
      BatchNorm layer(5, group, {.activation = Activation::relu});
      ForwardRecord record;
      layer.forward(x.view(), layer_y.view(), record);
      layer.backward(record, x.view(), dy.view(), layer_dx.view());

      std::vector<double> pivot(5, 0.0);
      std::vector<double> sums(sums_length(5));
      forward_sums(x.view(), pivot, sums);
      group.all_reduce(sums);
      for (int round = 0; move_far_pivots(sums, pivot, 1e-5, DType::f32, round); ++round) {
        forward_sums(x.view(), pivot, sums);
        group.all_reduce(sums);
      }
      Statistics statistics;
      finalize(sums, pivot, 1e-5, statistics);
      normalize(x.view(), statistics, {}, Activation::relu, std::nullopt, y.view());
      const BackwardContext context{.x = x.view(),
                                    .dy = dy.view(),
                                    .statistics = statistics,
                                    .affine = {},
                                    .activation = Activation::relu,
                                    .y = std::nullopt};
      backward_sums(context, sums);
      group.all_reduce(sums);
      input_gradient(context, sums, dx.view(), std::nullopt);

      EXPECT_EQ(statistics.count, 3.0 * 7 * group.size());
      for (std::int64_t n = 0; n < shape.n; ++n) {
        for (std::int64_t c = 0; c < shape.c; ++c) {
          for (std::int64_t s = 0; s < shape.s; ++s) {
            ASSERT_EQ(y.at(n, c, s), layer_y.at(n, c, s));
            ASSERT_EQ(dx.at(n, c, s), layer_dx.at(n, c, s));
          }
        }
      }
    }
  });
}

class PhasesAt : public testing::TestWithParam<test::PlaceKind> {
 protected:
  void SetUp() override {
    if (const std::string why = test::why_not(GetParam()); !why.empty()) {
      GTEST_SKIP() << why;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, PhasesAt, testing::ValuesIn(test::places()),
                         [](const auto& of) { return test::name_of(of.param); });

/// What a program with its own all-reduce keeps from batch to batch.
struct Kept {
  test::PlacedDoubles pivot, running_mean, running_var, start_mean, start_var, batches;

  Kept(const test::PlaceOfTest& place, std::size_t channels)
      : pivot(place, channels),
        running_mean(place, channels),
        running_var(place, channels, 1),
        start_mean(place, channels),
        start_var(place, channels, 1),
        batches(place, 1) {}

  BatchState state(Device device) const {
    return {.pivot = pivot,
            .running_mean = ArrayView(running_mean.get(), device),
            .running_var = ArrayView(running_var.get(), device),
            .start_mean = start_mean,
            .start_var = start_var,
            .num_batches_tracked = reinterpret_cast<std::int64_t*>(batches.get().data()),
            .device = device};
  }
};

TEST_P(PhasesAt, GiveTheLayersBitsWithItsDecisions) {
  test::on_ranks([](const Communicator& ranks) {
    const test::PlaceOfTest place(GetParam(), ranks);
    const Shape shape{3, 5, 7};
    const auto c = static_cast<std::size_t>(shape.c);
    BatchNorm layer = place.layer(shape.c, {.activation = Activation::leaky_relu()});
    ForwardRecord record;
    Kept kept(place, c);
    const BatchState state = kept.state(place.device());
    test::PlacedDoubles sums(place, sums_length(shape.c));
    test::PlacedDoubles mean(place, c), var(place, c), invstd(place, c), count(place, 1);
    test::PlacedDoubles weight_grad(place, c), bias_grad(place, c), digest(place, 1);
    const StatisticsSpans out{mean, var, invstd, count.get().data()};
    Scratch scratch;
    const PhaseOptions options{.scratch = &scratch};
    expect_batch(state, 0.1, DType::f32, options);
    for (std::uint64_t step = 0; step < 4; ++step) {
      const auto drawn = [&](std::uint64_t seed, double at) {
        return Tensor::normal(DType::f32, shape, Layout::channels_first, 10 * step + seed, at, 1,
                              3 * ranks.rank());
      };
      test::PlacedTensor x(place, drawn(1, step == 2 ? 1e4 : 0.5)), dy(place, drawn(2, 0.1));
      test::PlacedTensor y(place, drawn(3, 0)), layer_y(place, drawn(3, 0));
      test::PlacedTensor dx(place, drawn(4, 0)), layer_dx(place, drawn(4, 0));
      layer.forward(x.view(), layer_y.view(), record);
      layer.backward(record, x.view(), dy.view(), layer_dx.view());

      const auto take_sums = [&] {
        forward_sums(x.view(), kept.pivot, sums, {}, options);
        place.all_reduce(sums);
      };
      if (!place.device().is_cpu() && step == 0) {
        take_sums();
        finalize_batch(sums, {.pivot = kept.pivot, .device = place.device()}, 1e-5, 0.1, DType::f32,
                       out, options);
      }
      take_sums();
      for (int round = 0;
           place.device().is_cpu() && move_far_pivots(sums, kept.pivot, 1e-5, DType::f32, round);
           ++round) {
        take_sums();
      }
      finalize_batch(sums, state, 1e-5, 0.1, DType::f32, out, options);
      const StatisticsView statistics(mean, invstd);
      normalize(x.view(), statistics, {}, Activation::leaky_relu(), std::nullopt, y.view(), {},
                options);
      const BackwardContext context{.x = x.view(),
                                    .dy = dy.view(),
                                    .statistics = statistics,
                                    .activation = Activation::leaky_relu()};
      backward_sums(context, sums, options);
      add_parameter_gradients(sums, invstd, ArrayView(weight_grad.get(), place.device()),
                              ArrayView(bias_grad.get(), place.device()), options);
      place.all_reduce(sums);
      input_gradient(context, sums, dx.view(), std::nullopt, options);
      EXPECT_EQ(y.fetch(), layer_y.fetch()) << step;
      EXPECT_EQ(dx.fetch(), layer_dx.fetch()) << step;
      EXPECT_EQ(kept.running_mean.fetch(), place.fetch(layer.running_mean())) << step;
      EXPECT_EQ(kept.running_var.fetch(), place.fetch(layer.running_var())) << step;
      EXPECT_EQ(weight_grad.fetch(), place.fetch(layer.weight_grad())) << step;
      EXPECT_EQ(bias_grad.fetch(), place.fetch(layer.bias_grad())) << step;
      EXPECT_EQ(count.fetch()[0], 21.0 * ranks.size());
    }
    // The digest is that of all ranks, and another after a bit of the state has changed.
    const auto digested = [&] {
      auto* const written = reinterpret_cast<std::uint64_t*>(digest.get().data());
      state_digest(state, {ConstArrayView(weight_grad.get(), place.device())}, written, options);
      return std::bit_cast<std::uint64_t>(digest.fetch()[0]);
    };
    const std::uint64_t before = digested();
    EXPECT_EQ(digested(), before);
    const std::vector<double> other = {std::nextafter(kept.pivot.fetch()[0], 9e9)};
    place.upload(std::as_bytes(std::span(other)), kept.pivot.get().data());
    EXPECT_NE(digested(), before);
  });
}

TEST_P(PhasesAt, ExpectAMeanThatSumsCanBeAbout) {
  const test::PlaceOfTest place(GetParam(), Communicator::self());
  Kept kept(place, 2);
  const std::vector<double> means = {0.1, 1e300};  // the second is no float
  place.upload(std::as_bytes(std::span(means)), kept.running_mean.get().data());
  expect_batch(kept.state(place.device()), 0.1, DType::f32);
  EXPECT_EQ(kept.pivot.fetch(), (std::vector<double>{static_cast<double>(0.1F), 0}));
}

// Squares of these leave the range of float whatever the pivot.
TEST(Phases, DoNotMovePivotsForEver) {
  const Tensor x = [] {
    Tensor tensor(DType::bf16, {1, 1, 3}, Layout::channels_first);
    const double values[] = {2.3e19, -8.6e17, -3e19};
    for (std::int64_t s = 0; s < 3; ++s) {
      tensor.set(0, 0, s, values[s]);
    }
    return tensor;
  }();
  std::vector<double> pivot = {0}, sums(sums_length(1));
  int round = 0;
  forward_sums(x.view(), pivot, sums);
  while (move_far_pivots(sums, pivot, 1e-5, DType::bf16, round)) {
    ASSERT_LT(++round, 5);
    forward_sums(x.view(), pivot, sums);
  }
  EXPECT_FALSE(std::isfinite(sums[1]));
  forward_sums(x.view(), pivot, sums, {}, {.backend = Backend::reference});
  EXPECT_TRUE(std::isfinite(sums[1]));
}

TEST_P(PhasesAt, RefuseStatesInPartAndArraysThatOverlap) {
  const test::PlaceOfTest place(GetParam(), Communicator::self());
  const Kept kept(place, 3);
  test::PlacedDoubles sums(place, 7, 1), mean(place, 3), var(place, 3), invstd(place, 3);
  test::PlacedDoubles count(place, 1);
  const StatisticsSpans good{mean, var, invstd, count.get().data()};
  const auto refusal = [&](const BatchState& state, const StatisticsSpans& out) {
    return test::failure_of<InvalidArgument>(
        [&] { finalize_batch(sums, state, 1e-5, 0.1, DType::f32, out); });
  };
  const BatchState whole = kept.state(place.device());
  EXPECT_EQ(refusal(whole, good), "");
  BatchState part = whole;
  part.running_mean = {};
  EXPECT_THAT(refusal(part, good), testing::HasSubstr("Give all of them, or the pivot alone"));
  part = whole;
  part.num_batches_tracked = nullptr;
  EXPECT_THAT(refusal(part, good), testing::HasSubstr("Give all of them, or the pivot alone"));
  part = whole;
  part.running_var = part.running_mean;
  EXPECT_THAT(refusal(part, good), testing::HasSubstr("running_var overlaps running_mean"));
  EXPECT_THAT(refusal(whole, {mean, mean, invstd, count.get().data()}),
              testing::HasSubstr("var overlaps mean"));
  EXPECT_THAT(refusal(whole, {mean, var, invstd, mean.get().data()}),
              testing::HasSubstr("count overlaps mean"));
  EXPECT_THAT(refusal(whole, {kept.start_var, var, invstd, count.get().data()}),
              testing::HasSubstr("mean overlaps start_var"));
  EXPECT_THAT(refusal(whole, {sums.get().first(3), var, invstd, count.get().data()}),
              testing::HasSubstr("mean overlaps sums"));
  EXPECT_THAT(test::failure_of<InvalidArgument>([&] {
                state_digest(whole, {}, reinterpret_cast<std::uint64_t*>(kept.pivot.get().data()));
              }),
              testing::HasSubstr("digest overlaps pivot"));
}

TEST_P(PhasesAt, RefuseArraysThatDoNotFit) {
  const test::PlaceOfTest place(GetParam(), Communicator::self());
  const Tensor drawn = Tensor::normal(DType::f32, {2, 3, 4}, Layout::channels_first, 1);
  test::PlacedTensor x(place, drawn), y(place, drawn);
  test::PlacedDoubles pivot(place, 3), sums(place, 7), three(place, 3), two(place, 2),
      one(place, 1);
  const StatisticsView statistics(three, three);
  const auto refusal = [](const auto& call) { return test::failure_of<InvalidArgument>(call); };
  EXPECT_NE(refusal([&] { forward_sums(x.view(), two, sums); }), "");
  EXPECT_NE(refusal([&] { forward_sums(x.view(), pivot, sums.get().first(6)); }), "");
  EXPECT_NE(refusal([&] { forward_sums(x.view(), sums.get().first(3), sums); }), "");
  const Device elsewhere = place.device().is_cpu() ? Device::cuda(0) : Device::cpu();
  const ConstArrayView gamma(three.get(), elsewhere);
  EXPECT_THAT(
      refusal([&] {
        normalize(x.view(), statistics, {gamma, gamma}, Activation::none, std::nullopt, y.view());
      }),
      testing::HasSubstr("gamma is on"));
  const BatchState half{.pivot = pivot,
                        .running_mean = ArrayView(three.get(), place.device()),
                        .device = place.device()};
  const StatisticsSpans out{three, three, three, one.get().data()};
  EXPECT_NE(refusal([&] { finalize_batch(sums, half, 1e-5, 0.1, DType::f32, out); }), "");
  const BatchState alone{.pivot = pivot, .device = place.device()};
  EXPECT_NE(refusal([&] { expect_batch(alone, 0.1, DType::f32); }), "");
  EXPECT_NE(refusal([&] { finalize_batch(sums, alone, 1e-5, 1.5, DType::f32, out); }), "");
  EXPECT_NE(
      refusal([&] {
        finalize_batch(sums, alone, 1e-5, 0.1, DType::f32, {three, two, three, one.get().data()});
      }),
      "");
  EXPECT_NE(refusal([&] { state_digest(alone, {}, nullptr); }), "");
  if (!place.device().is_cpu()) {
    const std::vector<double> hosts(3, 1.0);
    EXPECT_THAT(refusal([&] { forward_sums(x.view(), hosts, sums); }),
                testing::HasSubstr("pivot is not in the memory of cuda:0"));
  }
}

TEST(Phases, RefuseLengthsThatDoNotFit) {
  const Tensor x = Tensor::normal(DType::f32, {2, 3, 4}, Layout::channels_first, 1);
  Tensor y = x;
  std::vector<double> pivot(3);
  std::vector<double> sums(sums_length(3));
  std::vector<double> gamma(3, 1.0);
  EXPECT_THROW(forward_sums(x.view(), std::span(pivot).first(2), sums), InvalidArgument);
  EXPECT_THROW(forward_sums(x.view(), pivot, std::span(sums).first(6)), InvalidArgument);
  Statistics statistics;
  EXPECT_THROW(finalize(std::span(sums).first(5), pivot, 1e-5, statistics), InvalidArgument);
  EXPECT_THROW(normalize(x.view(), statistics, {}, Activation::none, std::nullopt, y.view()),
               InvalidArgument);
  forward_sums(x.view(), pivot, sums);
  finalize(sums, pivot, 1e-5, statistics);
  EXPECT_THROW(
      normalize(x.view(), statistics, {gamma, {}}, Activation::none, std::nullopt, y.view()),
      InvalidArgument);
  EXPECT_NO_THROW(
      normalize(x.view(), statistics, {gamma, gamma}, Activation::none, std::nullopt, y.view()));
}

TEST(Phases, RefuseAnEpsThatCannotBe) {
  const std::vector<double> sums = {1e6, 1e12, 1};  // about a pivot that is far from the mean
  std::vector<double> pivot = {0};
  Statistics statistics;
  for (const double eps :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW(move_far_pivots(sums, pivot, eps, DType::f32, 0), InvalidArgument) << eps;
    EXPECT_THROW(finalize(sums, pivot, eps, statistics), InvalidArgument) << eps;
  }
  EXPECT_TRUE(statistics.mean.empty());
  EXPECT_NO_THROW(finalize(sums, pivot, 0, statistics));
}

}  // namespace
}  // namespace syncbn
