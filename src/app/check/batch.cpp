// SPDX-License-Identifier: Apache-2.0
#include "app/check/batch.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/visit_dtype.hpp"

#include "trainer/random.hpp"

namespace syncbn::app::check {
namespace {

enum class Stream : std::uint64_t { x = 100, residual, dy, gamma, beta, length, weight };

trainer::Random stream(Stream which, std::uint64_t seed, int step) {
  return trainer::Random(
      {static_cast<std::uint64_t>(which), seed, static_cast<std::uint64_t>(step)});
}

/// Returns a channel's spread, 1/4 to 4, so that channels differ.
double spread_of(std::int64_t channel) {
  return std::ldexp(1.0, static_cast<int>(channel % 5) - 2);
}

template <class T>
void draw_as(const Case& one, const trainer::Random& random, double mean_over_std, Values& out) {
  const std::int64_t per_channel = one.shape.per_channel();
  out.resize(static_cast<std::size_t>(one.shape.size()));
  for (std::int64_t c = 0; c < one.shape.c; ++c) {
    const double spread = spread_of(c);
    const double mean = mean_over_std * spread * (c % 2 == 0 ? 1 : -1);
    for (std::int64_t i = c * per_channel; i < (c + 1) * per_channel; ++i) {
      const double value = mean + spread * random.normal(static_cast<std::uint64_t>(i));
      out[static_cast<std::size_t>(i)] = to_double(from_double<T>(value));
    }
  }
}

Values draw(const Case& one, const trainer::Random& random, double mean_over_std) {
  Values values;
  visit_dtype(one.dtype, [&]<class T>() { draw_as<T>(one, random, mean_over_std, values); });
  return values;
}

std::vector<float> draw_weight(const Shape& shape, std::uint64_t seed, int step) {
  constexpr float weights[] = {1, 1, 0.5F, 3};
  const trainer::Random lengths = stream(Stream::length, seed, step);
  const trainer::Random choices = stream(Stream::weight, seed, step);
  std::vector<float> weight;
  for (std::int64_t n = 0; n < shape.n; ++n) {
    // The first sample has no padding, the second has nothing else.
    const double part = n == 0 ? 1 : n == 1 ? 0 : lengths.uniform(static_cast<std::uint64_t>(n));
    const auto length = static_cast<std::int64_t>(std::ceil(part * static_cast<double>(shape.s)));
    for (std::int64_t s = 0; s < shape.s; ++s) {
      const auto choice = static_cast<std::size_t>(4 * choices.uniform(weight.size()));
      weight.push_back(s < length ? weights[choice] : 0);
    }
  }
  return weight;
}

void remove_padding(const std::vector<float>& weight, Values& values) {
  for (std::size_t i = 0; i < values.size() && !weight.empty(); ++i) {
    if (weight[i % weight.size()] == 0) {
      values[i] = std::numeric_limits<double>::quiet_NaN();
    }
  }
}

}  // namespace

Batch make_batch(const Case& one, std::uint64_t seed, int step) {
  Batch batch{
      .x = draw(one, stream(Stream::x, seed, step), one.mean_over_std),
      .residual = one.residual ? draw(one, stream(Stream::residual, seed, step), 0) : Values(),
      .dy = draw(one, stream(Stream::dy, seed, step), 0.25),
      .weight = one.weighted ? draw_weight(one.shape, seed, step) : std::vector<float>()};
  for (Values* values : {&batch.x, &batch.residual, &batch.dy}) {
    remove_padding(batch.weight, *values);
  }
  return batch;
}

std::span<const float> weight_of(const Case& one, const Batch& batch, const Shard& shard) {
  const std::span<const float> whole = batch.weight;
  return whole.empty() ? whole
                       : whole.subspan(static_cast<std::size_t>(shard.begin * one.shape.s),
                                       static_cast<std::size_t>(shard.size() * one.shape.s));
}

Parameters make_parameters(std::int64_t channels, std::uint64_t seed) {
  Parameters parameters;
  const trainer::Random gamma = stream(Stream::gamma, seed, 0);
  const trainer::Random beta = stream(Stream::beta, seed, 0);
  for (std::uint64_t c = 0; c < static_cast<std::uint64_t>(channels); ++c) {
    parameters.gamma.push_back(0.5 + gamma.uniform(c));
    parameters.beta.push_back(2 * beta.uniform(c) - 1);
  }
  return parameters;
}

Tensor::Tensor(const Case& one, const Shard& shard)
    : dtype_(one.dtype),
      layout_(one.layout),
      shape_{shard.size(), one.shape.c, one.shape.s},
      bytes_(static_cast<std::size_t>(shape_.size()) * size_of(dtype_)) {
  fill(Values(static_cast<std::size_t>(shape_.size()), std::numeric_limits<double>::quiet_NaN()));
}

Tensor::Tensor(const Case& one, const Shard& shard, const Values& whole) : Tensor(one, shard) {
  Values own;
  own.reserve(static_cast<std::size_t>(shape_.size()));
  for (std::int64_t c = 0; c < one.shape.c; ++c) {
    const auto channel = whole.begin() + c * one.shape.per_channel();
    own.insert(own.end(), channel + shard.begin * one.shape.s, channel + shard.end * one.shape.s);
  }
  fill(own);
}

std::size_t Tensor::index(std::int64_t n, std::int64_t c, std::int64_t s) const {
  return static_cast<std::size_t>(layout_ == Layout::channels_first
                                      ? (n * shape_.c + c) * shape_.s + s
                                      : (n * shape_.s + s) * shape_.c + c);
}

void Tensor::fill(const Values& values) {
  visit_dtype(dtype_, [&]<class T>() {
    auto value = values.begin();
    for (std::int64_t c = 0; c < shape_.c; ++c) {
      for (std::int64_t n = 0; n < shape_.n; ++n) {
        for (std::int64_t s = 0; s < shape_.s; ++s) {
          const T element = from_double<T>(*value++);
          std::memcpy(bytes_.data() + index(n, c, s) * sizeof(T), &element, sizeof(T));
        }
      }
    }
  });
}

Values Tensor::values() const {
  Values values;
  values.reserve(static_cast<std::size_t>(shape_.size()));
  visit_dtype(dtype_, [&]<class T>() {
    for (std::int64_t c = 0; c < shape_.c; ++c) {
      for (std::int64_t n = 0; n < shape_.n; ++n) {
        for (std::int64_t s = 0; s < shape_.s; ++s) {
          T element;
          std::memcpy(&element, bytes_.data() + index(n, c, s) * sizeof(T), sizeof(T));
          values.push_back(to_double(element));
        }
      }
    }
  });
  return values;
}

}  // namespace syncbn::app::check
