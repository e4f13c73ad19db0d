// SPDX-License-Identifier: Apache-2.0

// Reproducibility::exact: every rank's part of the results has the bits that one process with the
// whole batch gives it, for whatever the ranks hold, and is as near the truth as in the default.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "bn/exact_steps.hpp"
#include "support/failure.hpp"
#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/whole_batch.hpp"
#include "support/worst.hpp"

namespace syncbn {
namespace {

using test::Batch;
using test::batches_of;
using test::bits_of;
using test::differences;
using test::expect_the_bits_of_one_process;
using test::Results;
using test::Setting;
using test::Shard;
using test::shard_of;
using test::Tensor;
using test::train;
using test::Whole;
using testing::HasSubstr;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

constexpr DType all_types[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
constexpr Layout both_layouts[] = {Layout::channels_first, Layout::channels_last};

TEST(ExactMode, GivesTheBitsOfOneProcess) {
  std::vector<Setting> settings;
  for (const DType dtype : all_types) {
    for (const Layout layout : both_layouts) {
      for (const Shape& shape :
           {Shape{11, 5, 37}, Shape{9, 1, 7}, Shape{17, 33, 1}, Shape{6, 3, 784}}) {
        settings.push_back({.dtype = dtype, .layout = layout, .shape = shape});
      }
      settings.push_back(
          {.dtype = dtype, .layout = layout, .activation = Activation::relu, .residual = true});
      settings.push_back({.dtype = dtype,
                          .layout = layout,
                          .activation = Activation::leaky_relu(0.1),
                          .in_place = true});
      settings.push_back({.dtype = dtype,
                          .layout = layout,
                          .activation = Activation::relu,
                          .weighted = true,
                          .tracked = false});
    }
  }
  expect_the_bits_of_one_process(settings);
}

// Larger than one block of the kernels, so that parts, columns and flushes come into play.
TEST(ExactMode, DoesNotDependOnHowKernelsCutTensors) {
  std::vector<Setting> settings;
  for (const Layout layout : both_layouts) {
    for (const Shape& shape : {Shape{9, 20, 400}, Shape{90, 300, 3}, Shape{4, 1, 20001}}) {
      settings.push_back({.layout = layout, .shape = shape});
    }
  }
  expect_the_bits_of_one_process(settings);
}

TEST(ExactMode, DoesNotDependOnBlocksOfChannels) {
  for (const Layout layout : both_layouts) {
    const Whole whole{
        {.layout = layout, .shape = {11, 12, 40}, .outlier = 1e5, .gradient_outlier = 7}};
    test::on_ranks([&](const Communicator& group) {
      for (const std::int64_t blocks : {2, 5, 12}) {
        Setting cut = whole.setting;
        cut.blocks = blocks;
        EXPECT_EQ(differences(group, whole, cut), 0) << blocks;
      }
    });
  }
}

/// Adds up in other orders than the group's own, on every rank the same.
Communicator backwards(const Communicator& group) {
  return Communicator::custom(group.rank(), group.size(), [group](std::span<double> data) {
    const std::vector<double> all = group.all_gather(std::vector(data.begin(), data.end()));
    std::ranges::fill(data, 0.0);
    for (std::size_t i = all.size(); i-- > 0;) {
      data[i % data.size()] += all[i];
    }
  });
}

TEST(ExactMode, DoesNotDependOnWhatAddsUpMessages) {
  for (const DType dtype : all_types) {
    const Whole whole{{.dtype = dtype, .outlier = 1e4, .gradient_outlier = nan}};
    test::on_ranks([&](const Communicator& group) {
      EXPECT_EQ(differences(backwards(group), whole, whole.setting), 0);
    });
  }
}

// The control: by default some bits do depend on the ranks, and this test notices.
TEST(ExactMode, IsNeededForThat) {
  for (const Layout layout : both_layouts) {
    const Whole whole{{.layout = layout,
                       .shape = {23, 40, 37},
                       .reproducibility = Reproducibility::rank_consistent}};
    test::on_ranks([&](const Communicator& group) {
      if (group.size() > 1) {
        EXPECT_GT(differences(group, whole, whole.setting), 0);
      }
    });
  }
}

TEST(ExactMode, HoldsForMeansFarFromZero) {
  expect_the_bits_of_one_process(test::with_means_far_from_zero());
}

TEST(ExactMode, HoldsWhenTermsLeaveTheirWindows) {
  expect_the_bits_of_one_process(test::with_outliers());
}

TEST(ExactMode, HoldsForWeightsFarFromOne) {
  expect_the_bits_of_one_process(test::with_weights_far_from_one());
}

TEST(ExactMode, HoldsAtTheEndsOfDouble) {
  expect_the_bits_of_one_process(test::at_the_ends_of_double());
}

TEST(ExactMode, HoldsForInfinitiesAndNaNs) {
  expect_the_bits_of_one_process(test::with_infinities_and_nans());
}

// Vectors that are not full have other products with an infinite mean: here only some ranks' are.
TEST(ExactMode, HoldsForAnInfiniteMean) {
  test::on_ranks([](const Communicator& group) {
    const Shape shape{8, 1, 16};
    const Tensor all_x = [&] {
      Tensor x = Tensor::normal(DType::f32, shape, Layout::channels_first, 1);
      x.set(3, 0, 5, infinity);
      return x;
    }();
    const Tensor all_dy = Tensor::normal(DType::f32, shape, Layout::channels_first, 2, 1, 0.01);
    const auto products = [&](const Communicator& ranks, const Shard& shard) {
      BatchNorm layer(1, ranks,
                      {.name = "exact",
                       .parameter_gradients = GradientScope::group,
                       .reproducibility = Reproducibility::exact});
      const Tensor x = all_x.samples(shard.begin, shard.end);
      const Tensor dy = all_dy.samples(shard.begin, shard.end);
      Tensor y = x, dx = x;
      ForwardRecord record;
      layer.forward(x.view(), y.view(), record);
      layer.backward(record, x.view(), dy.view(), dx.view());
      return std::array{bits_of(layer.weight_grad()[0]), bits_of(layer.bias_grad()[0])};
    };
    const Shard own = shard_of(3, shape.n, group.rank(), group.size());
    EXPECT_EQ(products(group, own), products(Communicator::self(), {0, shape.n}));
  });
}

// A state does not know the windows of the steps before it, so they are forgotten.
TEST(ExactMode, GoesOnFromAStateAsAnyLayerDoes) {
  const Tensor x = Tensor::normal(DType::f32, {5, 3, 20}, Layout::channels_first, 1);
  const Tensor dy = Tensor::normal(DType::f32, {5, 3, 20}, Layout::channels_first, 2, 0, 1e-4);
  const BatchNormOptions options{.name = "exact", .reproducibility = Reproducibility::exact};
  BatchNorm old(3, Communicator::self(), options), fresh(3, Communicator::self(), options);
  Tensor y = x, dx = x, fresh_dx = x;
  ForwardRecord record;
  for (int step = 0; step < 2; ++step) {
    old.forward(x.view(), y.view(), record);
    old.backward(record, x.view(), x.view(), dx.view());
  }
  StateDict state;
  old.save_state(state);
  old.load_state(state);
  fresh.load_state(state);
  old.zero_grad();
  for (BatchNorm* layer : {&old, &fresh}) {
    layer->forward(x.view(), y.view(), record);
    layer->backward(record, x.view(), dy.view(), (layer == &old ? dx : fresh_dx).view());
  }
  EXPECT_THAT(old.weight_grad(), testing::ElementsAreArray(fresh.weight_grad()));
  EXPECT_THAT(old.bias_grad(), testing::ElementsAreArray(fresh.bias_grad()));
  EXPECT_EQ(std::memcmp(dx.view().data(), fresh_dx.view().data(), 5 * 3 * 20 * sizeof(float)), 0);
}

// Where no running statistics are tracked, the last batch's mean is the next pivot, and no state
// has it: a layer that loads one forgets that mean.
TEST(ExactMode, GoesOnFromAStateWithoutRunningStatisticsAsANewLayerDoes) {
  const Tensor x = Tensor::normal(DType::f32, {5, 3, 20}, Layout::channels_first, 1, 3);
  const Tensor next = Tensor::normal(DType::f32, {5, 3, 20}, Layout::channels_first, 2, 2.5);
  for (const Reproducibility mode : {Reproducibility::exact, Reproducibility::rank_consistent}) {
    const BatchNormOptions options{
        .name = "exact", .track_running_stats = false, .reproducibility = mode};
    BatchNorm used(3, Communicator::self(), options), fresh(3, Communicator::self(), options);
    Tensor y = x, fresh_y = x;
    ForwardRecord record, fresh_record;
    used.forward(x.view(), y.view(), record);
    StateDict state;
    used.save_state(state);
    used.load_state(state);
    fresh.load_state(state);
    used.forward(next.view(), y.view(), record);
    fresh.forward(next.view(), fresh_y.view(), fresh_record);
    EXPECT_THAT(record.mean(), testing::ElementsAreArray(fresh_record.mean()));
    EXPECT_THAT(record.var(), testing::ElementsAreArray(fresh_record.var()));
    EXPECT_EQ(y, fresh_y);
  }
}

// As in the default mode: same classes of numbers, everywhere.
TEST(ExactMode, PropagatesInfinitiesAndNaNsAsTheDefault) {
  const auto class_of = [](double value) {
    return std::isnan(value) ? 2 : std::isinf(value) ? (value > 0 ? 1 : -1) : 0;
  };
  for (const double value : {infinity, -infinity, nan}) {
    for (const bool in_gradient : {false, true}) {
      Setting setting;
      (in_gradient ? setting.gradient_outlier : setting.outlier) = value;
      const Results exact = Whole{setting}.results;
      setting.reproducibility = Reproducibility::rank_consistent;
      const Results plain = Whole{setting}.results;
      for (std::size_t i = 0; i < plain.shared.size(); ++i) {
        EXPECT_EQ(class_of(exact.shared[i]), class_of(plain.shared[i])) << value << " " << i;
      }
      for (std::size_t t = 0; t < plain.tensors.size(); ++t) {
        for (std::int64_t n = 0; n < setting.shape.n; ++n) {
          for (std::int64_t c = 0; c < setting.shape.c; ++c) {
            for (std::int64_t s = 0; s < setting.shape.s; ++s) {
              ASSERT_EQ(class_of(exact.tensors[t].at(n, c, s)),
                        class_of(plain.tensors[t].at(n, c, s)))
                  << value << " tensor " << t << " at " << n << " " << c << " " << s;
            }
          }
        }
      }
    }
  }
}

TEST(ExactMode, HoldsForTheReferenceBackend) {
  std::vector<Setting> settings;
  for (const DType dtype : all_types) {
    settings.push_back({.dtype = dtype,
                        .shape = {7, 3, 5},
                        .weighted = true,
                        .backend = Backend::reference,
                        .outlier = 1e4});
  }
  expect_the_bits_of_one_process(settings);
}

// The bound of channels/exact_steps.hpp: 2^-25 (var + eps), or after a repeat n 2^-46 var, which is
// less here; f64 1e-14, and x - K is rounded by u: 2 u k^2 once the pivot, a float, is within 2^-22
// |mean| = 2^-22 k standard deviations. The mean is off by half a unit of a window of 2^9
// deviations, and what its own type holds it with.
TEST(ExactMode, IsNearTheTruth) {
  test::on_ranks([](const Communicator& group) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const double mean : {0.0, 1.0, 1e3, 1e6}) {
        const Shape shape{12, 3, 50};
        const Tensor x = Tensor::normal(dtype, shape, Layout::channels_first, 5, mean);
        const test::WholeBatch whole(x, {1, 1, 1}, {0, 0, 0}, 1e-5);
        const Shard shard = shard_of(1, shape.n, group.rank(), group.size());
        Tensor own = x.samples(shard.begin, shard.end);
        BatchNorm layer(3, group, {.name = "exact", .reproducibility = Reproducibility::exact});
        ForwardRecord record;
        const double of_var = (dtype == DType::f64 ? 1e-14 : 0x1p-25) * 1.01;
        for (int step = 0; step < 3; ++step) {
          Tensor y = own;
          layer.forward(own.view(), y.view(), record);
          for (std::size_t c = 0; c < 3; ++c) {
            const double var = static_cast<double>(whole.var[c]) + 1e-5;
            EXPECT_NEAR(record.var()[c] + 1e-5, var, of_var * var) << mean << " " << step;
            EXPECT_NEAR(record.mean()[c], static_cast<double>(whole.mean[c]),
                        0x1p-41 * std::sqrt(var) + 0x1p-52 * mean)
                << mean << " " << step;
          }
        }
        EXPECT_EQ(layer.pivot_retries(), 1) << "in the first step only";
      }
    }
  });
}

TEST(ExactMode, OnOneRankAloneIsNoticed) {
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    BatchNorm layer(4, group,
                    {.reproducibility = group.rank() == 0 ? Reproducibility::exact
                                                          : Reproducibility::rank_consistent});
    const Tensor x = Tensor::normal(DType::f32, {2, 4, 3}, Layout::channels_first, 1);
    Tensor y = x;
    ForwardRecord record;
    EXPECT_THAT(test::failure_of<CommError>([&] { layer.forward(x.view(), y.view(), record); }),
                HasSubstr("the ranks disagree"));
  });
}

// A weight's sum is exact even where doubles in another order are not.
TEST(ExactMode, CountsWeightsWithoutRounding) {
  test::on_ranks([](const Communicator& group) {
    const std::vector<float> all = {0x1p60F, 1, 1, 0x1p-100F, 0x1p-149F, 3, 0x1p60F, 0.1F};
    const Shard shard = shard_of(1, 8, group.rank(), group.size());
    const std::span<const float> own(all.data() + shard.begin, all.data() + shard.end);
    const Tensor x = Tensor::normal(DType::f32, {8, 1, 1}, Layout::channels_first, 1)
                         .samples(shard.begin, shard.end);
    Tensor y = x;
    BatchNorm layer(1, group, {.name = "exact", .reproducibility = Reproducibility::exact});
    ForwardRecord record;
    layer.forward(x.view(), y.view(), record, {.position_weights = own});
    EXPECT_EQ(record.count()[0], 0x1p61);
  });
}

}  // namespace
}  // namespace syncbn
