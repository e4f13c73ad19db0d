// SPDX-License-Identifier: Apache-2.0
//
// P ranks with a shard each against one process that holds the whole batch.
//
// Tolerances, with u the unit round-off of the arithmetic (2^-24 for f32, f16, bf16; 2^-53 for
// f64), u_out that of the stored type, and n the elements per channel:
//
//   y:  x - mean, the second half of the mean, scale rounded, the product, the sum with beta, the
//       residual: at most 6 roundings of terms no larger than M = |gamma x_hat| + |beta| + |r|, and
//       one to store. The statistics add: f64 keeps the mean to u |mean|, i.e. kappa u standard
//       deviations; invstd carries half of the variance's r (1 + k^2), r = 3 sqrt(n) u64 and for
//       16-bit types 12 u more. The retry keeps it below 1e-9 (f32), 1e-13 + r (f64), 5e-5 + r.
//   dx: two more products: at most 9 roundings of M' = |scale| (|dz| + |a|/n + |x - mean| |slope|),
//       the same statistics, and the sums' own r.

#include <cmath>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "support/on_ranks.hpp"
#include "support/tensor.hpp"
#include "support/whole_batch.hpp"
#include "support/worst.hpp"

namespace syncbn {
namespace {

using test::Tensor;
using test::WholeBatch;

struct Case {
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  Shape batch;  ///< of the whole group
  bool relu = false;
  bool residual = false;
  double mean = 0.5;
  double eps = 1e-5;
};

/// How samples are dealt out.
enum class Split { even, uneven, first_only };

std::int64_t boundary(Split split, std::int64_t samples, int ranks, int rank) {
  switch (split) {
    case Split::even:
      return samples * rank / ranks;
    case Split::uneven:
      return samples * rank * rank / (ranks * ranks);  // rank 0 often has none
    case Split::first_only:
      return rank == 0 ? 0 : samples;
  }
  return 0;
}

std::vector<double> ramp(std::int64_t channels, double from, double step) {
  std::vector<double> values;
  for (std::int64_t c = 0; c < channels; ++c) {
    values.push_back(from + step * static_cast<double>(c % 5));
  }
  return values;
}

double arithmetic_roundoff(DType dtype) {
  return dtype == DType::f64 ? 0x1p-53 : 0x1p-24;
}

double statistics_error(const Case& c) {
  const double rounding = 3 * std::sqrt(static_cast<double>(c.batch.per_channel())) * 0x1p-53;
  switch (c.dtype) {
    case DType::f64:
      return rounding + 1e-13 + std::fabs(c.mean) * 0x1p-53;
    case DType::f32:
      return 1e-9;
    default:
      return rounding + 12 * 0x1p-24 + 5e-5;
  }
}

template <class Body>
void each_element(const Shape& shape, Body&& body) {
  for (std::int64_t n = 0; n < shape.n; ++n) {
    for (std::int64_t c = 0; c < shape.c; ++c) {
      for (std::int64_t s = 0; s < shape.s; ++s) {
        body(n, c, s);
      }
    }
  }
}

class LayerRun {
 public:
  LayerRun(const Case& what, const Communicator& group, Split split)
      : case_(what),
        begin_(boundary(split, what.batch.n, group.size(), group.rank())),
        end_(boundary(split, what.batch.n, group.size(), group.rank() + 1)),
        x_(draw(1, what.mean)),
        residual_(draw(2, 0)),
        dy_(draw(3, 0)),
        layer_(what.batch.c, group,
               {.name = "bn",
                .eps = what.eps,
                .activation = what.relu ? Activation::relu : Activation::none}),
        y_(what.dtype, shard_shape(), what.layout),
        dx_(what.dtype, shard_shape(), what.layout),
        dresidual_(what.dtype, shard_shape(), what.layout),
        oracle_(x_, ramp(what.batch.c, 0.5, 0.25), ramp(what.batch.c, -0.5, 0.3), what.eps) {
    std::ranges::copy(oracle_.gamma, layer_.weight().begin());
    std::ranges::copy(oracle_.beta, layer_.bias().begin());
  }

  void run() {
    const Tensor x = x_.samples(begin_, end_);
    const Tensor dy = dy_.samples(begin_, end_);
    if (case_.residual) {
      layer_.forward(x.view(), y_.view(), record_,
                     {.residual = residual_.samples(begin_, end_).view()});
      layer_.backward(record_, x.view(), dy.view(), dx_.view(),
                      {.y = y_.view(), .dresidual = dresidual_.view()});
    } else {
      layer_.forward(x.view(), y_.view(), record_);
      layer_.backward(record_, x.view(), dy.view(), dx_.view());
    }
  }

  void expect_outputs() const {
    const double u = arithmetic_roundoff(case_.dtype);
    const double u_out = test::epsilon(case_.dtype) / 2;
    test::Worst worst;
    each_element(y_.shape(), [&](auto n, auto c, auto s) {
      const long double r = case_.residual ? residual_.at(begin_ + n, c, s) : 0.0;
      const long double z = oracle_.z(begin_ + n, c, s) + r;
      const long double expected = case_.relu && z < 0 ? 0 : z;
      const auto channel = static_cast<std::size_t>(c);
      const long double magnitude = std::fabs(oracle_.z(begin_ + n, c, s) - oracle_.beta[channel]) +
                                    std::fabs(oracle_.beta[channel]) + std::fabs(r);
      const long double tolerance =
          magnitude * (6 * u + u_out) +
          std::fabs(oracle_.gamma[channel]) * statistics_error(case_) * (1 + magnitude) + 1e-30;
      worst.see(static_cast<double>(std::fabs(y_.at(n, c, s) - expected) / tolerance));
    });
    EXPECT_LE(worst.value(), 1) << "y, in units of its tolerance";
  }

  /// `all_y` is the group's output: the activation's mask at values next to 0 is y's.
  void expect_gradients(const Tensor& all_y, const Communicator& group) {
    const WholeBatch::Gradients expected = oracle_.backward(dy_, case_.relu ? &all_y : nullptr);
    expect_input_gradient(expected);
    expect_residual_gradient(all_y);
    expect_parameter_gradients(expected, group);
  }

  const Tensor& y() const { return y_; }
  BatchNorm& layer() { return layer_; }
  const WholeBatch& oracle() const { return oracle_; }

 private:
  Shape shard_shape() const { return {end_ - begin_, case_.batch.c, case_.batch.s}; }

  Tensor draw(std::uint64_t seed, double mean) const {
    return Tensor::normal(case_.dtype, case_.batch, case_.layout, seed, mean, 1.0);
  }

  void expect_input_gradient(const WholeBatch::Gradients& expected) const {
    const double u = arithmetic_roundoff(case_.dtype);
    const double u_out = test::epsilon(case_.dtype) / 2;
    const long double count = static_cast<long double>(case_.batch.per_channel());
    test::Worst worst;
    each_element(dx_.shape(), [&](auto n, auto c, auto s) {
      const auto channel = static_cast<std::size_t>(c);
      const long double reference = expected.dx_at(case_.batch, begin_ + n, c, s);
      const long double scale = std::fabs(oracle_.gamma[channel] * oracle_.invstd(c));
      const long double x_hat = std::fabs(oracle_.x_hat(begin_ + n, c, s));
      const long double magnitude =
          scale * (std::fabs(dy_.at(begin_ + n, c, s)) + std::fabs(expected.beta[channel]) / count +
                   x_hat * std::fabs(expected.gamma[channel]) / count);
      const long double tolerance =
          magnitude * (9 * u + u_out) + scale * 3 * statistics_error(case_) * (3 + x_hat) + 1e-30;
      worst.see(static_cast<double>(std::fabs(dx_.at(n, c, s) - reference) / tolerance));
    });
    EXPECT_LE(worst.value(), 1) << "dx, in units of its tolerance";
  }

  // dz itself: nothing is rounded.
  void expect_residual_gradient(const Tensor& all_y) const {
    if (!case_.residual) {
      return;
    }
    each_element(dresidual_.shape(), [&](auto n, auto c, auto s) {
      const bool stopped = case_.relu && all_y.at(begin_ + n, c, s) <= 0;
      ASSERT_EQ(dresidual_.at(n, c, s), stopped ? 0 : dy_.at(begin_ + n, c, s));
    });
  }

  // Local shares, summed by the test as a trainer would. Sums of n products, each of
  // relative error 3 u64 and of x_hat's statistics_error.
  void expect_parameter_gradients(const WholeBatch::Gradients& expected,
                                  const Communicator& group) {
    std::vector<double> sums(layer_.weight_grad().begin(), layer_.weight_grad().end());
    sums.insert(sums.end(), layer_.bias_grad().begin(), layer_.bias_grad().end());
    group.all_reduce(sums);
    const auto count = static_cast<double>(case_.batch.per_channel());
    const double tolerance = count * 10 * (3 * 0x1p-53 + statistics_error(case_));
    const auto channels = static_cast<std::size_t>(case_.batch.c);
    for (std::size_t c = 0; c < channels; ++c) {
      EXPECT_NEAR(sums[c], static_cast<double>(expected.gamma[c]), tolerance) << "dgamma " << c;
      EXPECT_NEAR(sums[channels + c], static_cast<double>(expected.beta[c]), tolerance)
          << "dbeta " << c;
    }
  }

  Case case_;
  std::int64_t begin_, end_;
  Tensor x_, residual_, dy_;  // of the whole batch, drawn by every rank
  BatchNorm layer_;
  Tensor y_, dx_, dresidual_;
  ForwardRecord record_;
  WholeBatch oracle_;
};

/// The group's tensors one after the other: shards are contiguous in the first axis.
Tensor gather(const Tensor& shard, const Shape& batch, const Communicator& group, Split split) {
  const std::int64_t begin = boundary(split, batch.n, group.size(), group.rank());
  std::vector<double> values(static_cast<std::size_t>(batch.size()), 0.0);
  each_element(shard.shape(), [&](auto n, auto c, auto s) {
    values[static_cast<std::size_t>(((begin + n) * batch.c + c) * batch.s + s)] = shard.at(n, c, s);
  });
  group.all_reduce(values);
  Tensor all(shard.dtype(), batch, shard.layout());
  each_element(batch, [&](auto n, auto c, auto s) {
    all.set(n, c, s, values[static_cast<std::size_t>((n * batch.c + c) * batch.s + s)]);
  });
  return all;
}

void expect_whole_batch_result(const Case& what) {
  SCOPED_TRACE(std::string(to_string(what.dtype)) + " " + std::string(to_string(what.layout)) +
               " n=" + std::to_string(what.batch.n) + " c=" + std::to_string(what.batch.c) +
               " s=" + std::to_string(what.batch.s) + (what.relu ? " relu" : "") +
               (what.residual ? " residual" : "") + " mean=" + std::to_string(what.mean));
  test::on_ranks([&](const Communicator& group) {
    for (const Split split : {Split::even, Split::uneven, Split::first_only}) {
      LayerRun run(what, group, split);
      run.run();
      run.expect_outputs();
      run.expect_gradients(gather(run.y(), what.batch, group, split), group);
    }
  });
}

constexpr DType all_dtypes[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
constexpr Layout all_layouts[] = {Layout::channels_first, Layout::channels_last};

TEST(Layer, EqualsOneProcessForEveryTypeLayoutAndFusion) {
  for (const DType dtype : all_dtypes) {
    for (const Layout layout : all_layouts) {
      for (const bool relu : {false, true}) {
        for (const bool residual : {false, true}) {
          expect_whole_batch_result({dtype, layout, {7, 5, 9}, relu, residual});
        }
      }
    }
  }
}

TEST(Layer, EqualsOneProcessForAwkwardShapes) {
  for (const Layout layout : all_layouts) {
    for (const Shape& shape : {Shape{8, 1, 1}, Shape{5, 31, 1}, Shape{3, 64, 49}, Shape{4, 127, 3},
                               Shape{2, 3, 1025}, Shape{2, 2048, 1}}) {
      expect_whole_batch_result({DType::f32, layout, shape, true, false});
      expect_whole_batch_result({DType::bf16, layout, shape, false, true});
    }
  }
}

TEST(Layer, EqualsOneProcessWhenTheMeanIsFarFromZero) {
  for (const Layout layout : all_layouts) {
    for (const double mean : {1e2, -1e4, 1e6}) {
      expect_whole_batch_result({DType::f32, layout, {9, 3, 35}, false, false, mean});
      expect_whole_batch_result({DType::f64, layout, {9, 3, 35}, true, true, mean});
    }
  }
}

TEST(Layer, LocalStatisticsMissTheTolerance) {
  // The negative control: without the exchange the same comparison must fail.
  test::on_ranks([](const Communicator& group) {
    if (group.size() == 1) {
      return;
    }
    const Case what{DType::f32, Layout::channels_first, {8, 3, 4}};
    const Tensor x = Tensor::normal(what.dtype, what.batch, what.layout, 1, what.mean);
    const Tensor mine = x.samples(what.batch.n * group.rank() / group.size(),
                                  what.batch.n * (group.rank() + 1) / group.size());
    Tensor synchronized(what.dtype, mine.shape(), what.layout);
    Tensor local(what.dtype, mine.shape(), what.layout);
    ForwardRecord record;
    BatchNorm(3, group).forward(mine.view(), synchronized.view(), record);
    BatchNorm(3, Communicator::self()).forward(mine.view(), local.view(), record);
    double difference = 0;
    each_element(mine.shape(), [&](auto n, auto c, auto s) {
      difference = std::max(difference, std::fabs(local.at(n, c, s) - synchronized.at(n, c, s)));
    });
    EXPECT_GT(difference, 0.01);
  });
}

TEST(Layer, SeveralForwardsBeforeTheirBackwards) {
  test::on_ranks([](const Communicator& group) {
    const Shape shape{4, 3, 5};
    BatchNorm layer(3, group);
    BatchNorm once(3, group, {.name = "once"});
    std::vector<Tensor> xs, dxs;
    std::vector<ForwardRecord> record(3);
    const Tensor dy = Tensor::normal(DType::f64, shape, Layout::channels_first, 9);
    Tensor y(DType::f64, shape, Layout::channels_first);
    for (std::size_t i = 0; i < record.size(); ++i) {
      xs.push_back(Tensor::normal(DType::f64, shape, Layout::channels_first, 10 + i, double(i), 1,
                                  4 * group.rank()));
      layer.forward(xs[i].view(), y.view(), record[i]);
    }
    for (const std::size_t i : {1, 2, 0}) {
      Tensor dx(DType::f64, shape, Layout::channels_first);
      Tensor expected(DType::f64, shape, Layout::channels_first);
      layer.backward(record[i], xs[i].view(), dy.view(), dx.view());
      ForwardRecord own;
      once.forward(xs[i].view(), y.view(), own);
      once.backward(own, xs[i].view(), dy.view(), expected.view());
      each_element(shape, [&](auto n, auto c, auto s) {
        ASSERT_NEAR(dx.at(n, c, s), expected.at(n, c, s), 1e-12);
      });
    }
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(layer.weight_grad()[c], once.weight_grad()[c], 1e-11);
    }
    layer.zero_grad();
    EXPECT_EQ(layer.weight_grad()[0], 0);
  });
}

TEST(Layer, RefusesWhatAnotherLayerOfItsNameSaved) {
  const Communicator self = Communicator::self();
  const Tensor x = Tensor::normal(DType::f32, {4, 3, 5}, Layout::channels_first, 1);
  Tensor y = x, dx = x;
  BatchNorm one(3, self, {.name = "bn"}), two(3, self, {.name = "bn"});
  ForwardRecord record;
  one.forward(x.view(), y.view(), record);
  EXPECT_THAT([&] { two.backward(record, x.view(), x.view(), dx.view()); },
              testing::ThrowsMessage<InvalidArgument>(
                  testing::HasSubstr("a forward of another layer of that name")));
  BatchNorm moved = std::move(one);
  EXPECT_NO_THROW(moved.backward(record, x.view(), x.view(), dx.view()));
  moved = BatchNorm(3, self, {.name = "bn"});
  EXPECT_THROW(moved.backward(record, x.view(), x.view(), dx.view()), InvalidArgument);
}

TEST(Layer, WorksInPlace) {
  test::on_ranks([](const Communicator& group) {
    const Shape shape{3, 4, 6};
    const Tensor x =
        Tensor::normal(DType::f32, shape, Layout::channels_last, 1, 2, 1, group.rank());
    const Tensor dy = Tensor::normal(DType::f32, shape, Layout::channels_last, 2);
    Tensor y(DType::f32, shape, Layout::channels_last),
        dx(DType::f32, shape, Layout::channels_last);
    Tensor x_and_y = x, dy_and_dx = dy;
    BatchNorm apart(4, group), in_place(4, group);
    ForwardRecord record, record_in_place;
    apart.forward(x.view(), y.view(), record);
    apart.backward(record, x.view(), dy.view(), dx.view());
    in_place.forward(x_and_y.view(), x_and_y.view(), record_in_place);
    in_place.backward(record_in_place, x.view(), dy_and_dx.view(), dy_and_dx.view());
    each_element(shape, [&](auto n, auto c, auto s) {
      ASSERT_EQ(x_and_y.at(n, c, s), y.at(n, c, s));
      ASSERT_EQ(dy_and_dx.at(n, c, s), dx.at(n, c, s));
    });
  });
}

}  // namespace
}  // namespace syncbn
