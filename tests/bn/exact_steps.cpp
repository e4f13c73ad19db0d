// SPDX-License-Identifier: Apache-2.0
#include "bn/exact_steps.hpp"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include <gtest/gtest.h>

#include "support/on_ranks.hpp"

namespace syncbn::test {
namespace {

constexpr int steps = 4;

}  // namespace

Shard shard_of(int sharding, std::int64_t samples, int rank, int ranks) {
  const auto cut = [&](std::int64_t part, std::int64_t whole) { return samples * part / whole; };
  const std::int64_t r = rank;
  const std::int64_t p = ranks;
  switch (sharding) {
    case 0:  // even
      return {cut(r, p), cut(r + 1, p)};
    case 1:  // growing
      return {cut(r * (r + 1), p * (p + 1)), cut((r + 1) * (r + 2), p * (p + 1))};
    case 2:  // the last has all
      return {r == p - 1 ? 0 : samples, samples};
    case 3:  // one each, the first the rest
      return r == 0 ? Shard{0, samples - p + 1} : Shard{samples - p + r, samples - p + r + 1};
    default:  // the first none, if there are others
      return p == 1 ? Shard{0, samples}
                    : Shard{cut(std::max<std::int64_t>(r - 1, 0), p - 1), cut(r, p - 1)};
  }
}

std::vector<Batch> batches_of(const Setting& setting) {
  std::vector<Batch> batches;
  for (int step = 0; step < steps; ++step) {
    const auto normal = [&](int what, double mean, double spread) {
      const auto seed = static_cast<std::uint64_t>(100 * what + step);
      return Tensor::normal(setting.dtype, setting.shape, setting.layout, seed, mean, spread);
    };
    Batch batch{.x = normal(1, setting.mean, step == 3 ? 0.7 * setting.spread : setting.spread),
                .dy = normal(2, 0.01, step == 3 ? 1e-7 : 1e-3),
                .residual = normal(3, 0, 1)};
    if (step == 2 && setting.shape.n > 1) {
      const std::int64_t c = std::min<std::int64_t>(2, setting.shape.c - 1);
      if (setting.outlier != 0) {
        batch.x.set(1, c, 0, setting.outlier);
      }
      if (setting.gradient_outlier != 0) {
        batch.dy.set(1, c, 0, setting.gradient_outlier);
      }
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<float> weights_of(const Setting& setting, const Shard& shard) {
  constexpr float values[] = {1, 0.3F, 0, 2.7F, 1, 0x1p-20F, 1.5F};
  const float scale = setting.heaviest / 2.7F;
  std::vector<float> weight;
  for (std::int64_t i = shard.begin * setting.shape.s; i < shard.end * setting.shape.s; ++i) {
    weight.push_back(scale * values[static_cast<std::size_t>(i * 5 / 3 % 7)]);
  }
  return weight;
}

BatchNormOptions options_of(const Setting& setting) {
  return {.name = "exact",
          .eps = setting.eps,
          .track_running_stats = setting.tracked,
          .activation = setting.activation,
          .parameter_gradients = setting.scope,
          .channel_blocks = setting.blocks,
          .reproducibility = setting.reproducibility,
          .backend = setting.backend};
}

// Parameters are the same however they are rounded.
std::vector<double> gamma_of(const Setting& setting) {
  std::vector<double> gamma;
  for (std::int64_t c = 0; c < setting.shape.c; ++c) {
    gamma.push_back(0.75 + 0.125 * static_cast<double>(c % 7));
  }
  return gamma;
}

std::vector<double> beta_of(const Setting& setting) {
  std::vector<double> beta;
  for (std::int64_t c = 0; c < setting.shape.c; ++c) {
    beta.push_back(0.25 * static_cast<double>(c % 3) - 0.375);
  }
  return beta;
}

Results train(const Communicator& group, const Setting& setting, const std::vector<Batch>& batches,
              const Shard& shard) {
  BatchNorm layer(setting.shape.c, group, options_of(setting));
  std::ranges::copy(gamma_of(setting), layer.weight().begin());
  std::ranges::copy(beta_of(setting), layer.bias().begin());
  Results results;
  ForwardRecord record;
  const std::vector<float> weight =
      setting.weighted ? weights_of(setting, shard) : std::vector<float>{};
  for (const Batch& batch : batches) {
    Tensor x = batch.x.samples(shard.begin, shard.end);
    const Tensor dy = batch.dy.samples(shard.begin, shard.end);
    const Tensor residual = batch.residual.samples(shard.begin, shard.end);
    Tensor y = x, dx = x, dresidual = x;
    if (setting.in_place) {
      layer.forward_in_place(y.view(), record, {.position_weights = weight});
      layer.backward_in_place(record, y.view(), dy.view(), dx.view(), {.position_weights = weight});
    } else if (setting.residual) {
      layer.forward(x.view(), y.view(), record,
                    {.residual = residual.view(), .position_weights = weight});
      layer.backward(record, x.view(), dy.view(), dx.view(),
                     {.y = y.view(), .dresidual = dresidual.view(), .position_weights = weight});
      results.tensors.push_back(dresidual);
    } else {
      layer.forward(x.view(), y.view(), record, {.position_weights = weight});
      layer.backward(record, x.view(), dy.view(), dx.view(), {.position_weights = weight});
    }
    results.tensors.push_back(y);
    results.tensors.push_back(dx);
    results.shared.push_back(record.count()[0]);
    for (const std::span<const double> values :
         {std::span<const double>(record.mean()), std::span<const double>(record.var()),
          std::span<const double>(layer.running_mean()),
          std::span<const double>(layer.running_var()),
          std::span<const double>(layer.weight_grad()),
          std::span<const double>(layer.bias_grad())}) {
      results.shared.insert(results.shared.end(), values.begin(), values.end());
    }
  }
  results.retries = layer.pivot_retries();
  return results;
}

std::int64_t count_differences(const Results& part, const Results& whole, const Shard& shard) {
  std::int64_t differences = part.retries == whole.retries ? 0 : 1;
  for (std::size_t t = 0; t < whole.tensors.size(); ++t) {
    const Tensor expected = whole.tensors[t].samples(shard.begin, shard.end);
    const Shape& shape = expected.shape();
    if (expected == part.tensors[t]) {
      continue;
    }
    for (std::int64_t n = 0; n < shape.n; ++n) {
      for (std::int64_t c = 0; c < shape.c; ++c) {
        for (std::int64_t s = 0; s < shape.s; ++s) {
          const double a = expected.at(n, c, s);
          const double b = part.tensors[t].at(n, c, s);
          differences += bits_of(a) != bits_of(b) ? 1 : 0;
        }
      }
    }
  }
  for (std::size_t i = 0; i < whole.shared.size(); ++i) {
    differences += bits_of(part.shared[i]) != bits_of(whole.shared[i]) ? 1 : 0;
  }
  return differences;
}

Whole::Whole(const Setting& settings, const Train& by)
    : setting(settings),
      batches(batches_of(settings)),
      results(by(Communicator::self(), settings, batches, {0, settings.shape.n})) {}

double differences(const Communicator& group, const Whole& whole, const Setting& setting,
                   const Train& by) {
  const std::int64_t samples = setting.shape.n;
  double sum = 0;
  for (int sharding = 0; sharding < (group.size() == 1 ? 1 : shardings); ++sharding) {
    if (samples < group.size() && sharding == 3) {
      continue;
    }
    const Shard shard = shard_of(sharding, samples, group.rank(), group.size());
    const Results part = by(group, setting, whole.batches, shard);
    std::vector<double> of_all = {
        static_cast<double>(count_differences(part, whole.results, shard))};
    group.all_reduce(of_all);
    sum += of_all[0];
  }
  return sum;
}

void expect_the_bits_of_one_process(const std::vector<Setting>& settings, const Train& by,
                                    const Train& of_whole) {
  std::vector<Whole> wholes;
  for (const Setting& setting : settings) {
    wholes.emplace_back(setting, of_whole);
  }
  on_ranks([&](const Communicator& group) {
    for (const Whole& whole : wholes) {
      EXPECT_EQ(differences(group, whole, whole.setting, by), 0) << to_text(whole.setting);
    }
  });
}

std::vector<Setting> with_means_far_from_zero() {
  std::vector<Setting> settings;
  for (const double mean : {1e2, 1e4, 1e6}) {
    settings.push_back({.mean = mean});
    settings.push_back({.dtype = DType::f64, .mean = -mean, .weighted = true});
    settings.push_back({.mean = mean, .tracked = false});
  }
  return settings;
}

std::vector<Setting> with_outliers() {
  std::vector<Setting> settings = {{.dtype = DType::f64, .outlier = 1e200}};
  for (const double outlier : {600.0, 1e5, 1e9, 1e30}) {
    for (const bool weighted : {false, true}) {
      settings.push_back({.weighted = weighted, .outlier = outlier, .gradient_outlier = outlier});
    }
    settings.push_back({.dtype = DType::f64, .outlier = -outlier});
    settings.push_back({.dtype = DType::bf16, .outlier = -outlier});
  }
  return settings;
}

std::vector<Setting> with_weights_far_from_one() {
  std::vector<Setting> settings;
  for (const float heaviest : {1e-30F, 1e-12F, 1e-3F, 1e6F, 1e30F}) {
    for (const double mean : {0.3, 1e6}) {
      settings.push_back({.mean = mean, .weighted = true, .heaviest = heaviest});
    }
    settings.push_back({.dtype = DType::f64, .mean = 7, .weighted = true, .heaviest = heaviest});
    settings.push_back({.weighted = true, .heaviest = heaviest, .tracked = false});
  }
  return settings;
}

std::vector<Setting> at_the_ends_of_double() {
  std::vector<Setting> settings;
  for (const double spread : {1e-300, 1e-160, 1e-150, 1e150, 1e155}) {
    for (const double means : {0.0, 5.0}) {
      settings.push_back({.dtype = DType::f64, .mean = means * spread, .spread = spread, .eps = 0});
    }
  }
  return settings;
}

std::vector<Setting> with_infinities_and_nans() {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<Setting> settings;
  for (const double value : {infinity, -infinity, nan}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16}) {
      settings.push_back({.dtype = dtype, .outlier = value});
      settings.push_back({.dtype = dtype, .gradient_outlier = value});
    }
  }
  return settings;
}

std::string to_text(const Setting& setting) {
  return std::string(to_string(setting.dtype)) + " " + std::string(to_string(setting.layout)) +
         " " + std::to_string(setting.shape.n) + "x" + std::to_string(setting.shape.c) + "x" +
         std::to_string(setting.shape.s) + ", mean " + std::to_string(setting.mean) +
         ", outliers " + std::to_string(setting.outlier) + " " +
         std::to_string(setting.gradient_outlier);
}

}  // namespace syncbn::test
