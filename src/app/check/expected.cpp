// SPDX-License-Identifier: Apache-2.0
#include "app/check/expected.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "app/check/tolerance.hpp"

namespace syncbn::app::check {
namespace {

using Real = long double;

double magnitude(Real value) {
  return static_cast<double>(std::fabs(value));
}

/// A Channel is one channel of a step. Spans hold its elements.
class Channel {
 public:
  Channel(const Case& one, double gamma, double beta, double eps, std::span<const double> x,
          std::span<const double> residual, std::span<const float> weight)
      : slope_(one.activation.negative_slope),
        precision_(precision_of(one)),
        beta_(beta),
        x_(x),
        residual_(residual),
        weight_(weight) {
    Real n = 0;
    for_all([&](std::size_t, Real w) { n += w; });
    for_all([&](std::size_t i, Real w) { mean_ += w * x_[i] / n; });
    for_all([&](std::size_t i, Real w) { var_ += w * (x_[i] - mean_) * (x_[i] - mean_) / n; });
    invstd_ = 1 / std::sqrt(var_ + static_cast<Real>(eps));
    scale_ = gamma * invstd_;
    known_.count = static_cast<double>(n);
    known_.mean = magnitude(mean_);
    known_.invstd = magnitude(invstd_);
    known_.scale = magnitude(scale_);
    known_.terms = static_cast<double>(x.size());
    for_all([&](std::size_t i, Real) {
      known_.farthest = std::max(known_.farthest, magnitude(x[i] - mean_));
      known_.z_terms = std::max(known_.z_terms, magnitude((x[i] - mean_) * scale_) +
                                                    std::fabs(beta) + std::fabs(residual_at(i)));
    });
  }

  /// Takes into account that a layer on a device sums about this pivot; `first` means that it sums
  /// twice.
  void summed_about(double pivot, double tolerance, bool first) {
    known_.distance = magnitude(mean_ - pivot) + tolerance;
    known_.summed_twice = first;
  }

  Real z(std::size_t i) const { return (x_[i] - mean_) * scale_ + beta_ + residual_at(i); }

  void forward(std::span<double> y) const {
    std::ranges::fill(y, 0);
    for_all(
        [&](std::size_t i, Real) { y[i] = static_cast<double>(z(i) > 0 ? z(i) : slope_ * z(i)); });
  }

  void through_activation(std::span<const double> dy, std::span<double> dz) const {
    std::ranges::fill(dz, 0);
    for_all([&](std::size_t i, Real) { dz[i] = z(i) > 0 ? dy[i] : slope_ * dy[i]; });
  }

  void remove_undecided(std::span<double> dy) const {
    const double undecided = tolerance().z() + precision_.smallest;
    if (slope_ != 1) {
      for_all([&](std::size_t i, Real) { dy[i] = magnitude(z(i)) > undecided ? dy[i] : 0; });
    }
  }

  void backward(std::span<const double> dz, std::span<double> dx) {
    for_all([&](std::size_t i, Real w) {
      known_.heaviest = std::max(known_.heaviest, magnitude(w));
      bias_grad_ += dz[i];
      centered_ += dz[i] * (x_[i] - mean_);
      known_.dz = std::max(known_.dz, std::fabs(dz[i]));
      known_.sum_dz += std::fabs(dz[i]);
      known_.sum_dz_x += magnitude(dz[i] * (x_[i] - mean_));
    });
    const Real mean_dz = bias_grad_ / known_.count;
    const Real slope = centered_ / known_.count * invstd_ * invstd_;
    known_.slope = magnitude(slope);
    std::ranges::fill(dx, 0);
    for_all([&](std::size_t i, Real w) {
      const Real bent = (x_[i] - mean_) * slope;
      dx[i] = static_cast<double>(scale_ * (dz[i] - w * (mean_dz + bent)));
      known_.dx_terms = std::max(
          known_.dx_terms,
          magnitude(scale_) * (std::fabs(dz[i]) + magnitude(w * mean_dz) + magnitude(w * bent)));
    });
  }

  double weight_grad() const { return static_cast<double>(centered_ * invstd_); }
  double bias_grad() const { return static_cast<double>(bias_grad_); }
  double mean() const { return static_cast<double>(mean_); }
  double unbiased_var() const {
    return static_cast<double>(var_ * known_.count / (known_.count - 1));
  }
  double var_and_eps() const { return static_cast<double>(1 / (invstd_ * invstd_)); }

  const Magnitudes& magnitudes() const { return known_; }
  Tolerance tolerance() const { return {precision_, known_}; }

 private:
  /// Calls body(i, weight) for every element that is not padding.
  template <class Body>
  void for_all(Body body) const {
    for (std::size_t i = 0; i < x_.size(); ++i) {
      const Real weight = weight_.empty() ? 1 : weight_[i];
      if (weight > 0) {
        body(i, weight);
      }
    }
  }

  double residual_at(std::size_t i) const { return residual_.empty() ? 0 : residual_[i]; }

  double slope_;
  Precision precision_;
  Real beta_;
  std::span<const double> x_;
  std::span<const double> residual_;
  std::span<const float> weight_;
  Real mean_ = 0, var_ = 0, invstd_ = 0, scale_ = 0;
  Real bias_grad_ = 0, centered_ = 0;
  Magnitudes known_;
};

void append(Exact& to, double tolerance, double scale) {
  to.tolerance.push_back(tolerance);
  to.scale.push_back(scale);
}

void append(Exact& to, double value, double tolerance, double scale) {
  to.values.push_back(value);
  append(to, tolerance, scale);
}

void append_channel(Expected& to, const Channel& channel, bool residual) {
  const Magnitudes& known = channel.magnitudes();
  const Tolerance tolerance = channel.tolerance();
  append(to.y, tolerance.y(), known.z_terms);
  append(to.dx, tolerance.dx(), known.dx_terms);
  if (residual) {
    append(to.dresidual, tolerance.dresidual(), known.dz == 0 ? 1 : known.dz);
  }
  append(to.weight_grad, channel.weight_grad(), tolerance.weight_grad(),
         known.invstd * known.sum_dz_x);
  append(to.bias_grad, channel.bias_grad(), tolerance.bias_grad(), known.sum_dz);
  append(to.mean, channel.mean(), tolerance.mean(), known.mean + 1 / known.invstd);
  append(to.unbiased_var, channel.unbiased_var(), tolerance.unbiased_var(), channel.var_and_eps());
}

}  // namespace

Pivot foretell(const Exact& running_mean, int steps, double momentum) {
  Pivot pivot{
      .values = running_mean.values, .tolerance = running_mean.tolerance, .first = steps == 0};
  const double share_of_batches = steps == 0 ? 1 : 1 - std::pow(1 - momentum, steps);
  for (std::size_t c = 0; c < pivot.values.size(); ++c) {
    pivot.values[c] /= share_of_batches;
    pivot.tolerance[c] =
        pivot.tolerance[c] / share_of_batches + pivot_roundoff * std::fabs(pivot.values[c]);
  }
  return pivot;
}

Expected expect(const Case& one, const Parameters& parameters, double eps, const Pivot& pivot,
                Batch& batch) {
  Expected expected;
  expected.y.values.resize(batch.x.size());
  expected.dx.values.resize(batch.x.size());
  Values dz(batch.x.size());
  const auto per_channel = static_cast<std::size_t>(one.shape.per_channel());
  for (std::size_t c = 0; c < parameters.gamma.size(); ++c) {
    const auto part = [&](auto& whole) {
      return std::span(whole).subspan(c * per_channel, whole.empty() ? 0 : per_channel);
    };
    const std::span<const double> residual =
        one.residual ? part(batch.residual) : std::span<double>();
    Channel channel(one, parameters.gamma[c], parameters.beta[c], eps, part(batch.x), residual,
                    batch.weight);
    if (sums_on_device(one)) {
      channel.summed_about(pivot.values[c], pivot.tolerance[c], pivot.first);
    }
    channel.forward(part(expected.y.values));
    channel.remove_undecided(part(batch.dy));
    channel.through_activation(part(batch.dy), part(dz));
    channel.backward(part(dz), part(expected.dx.values));
    append_channel(expected, channel, one.residual);
  }
  if (one.residual) {
    expected.dresidual.values = std::move(dz);
  }
  return expected;
}

void update_running(Exact& running, const Exact& newest, double momentum) {
  for (std::size_t c = 0; c < running.values.size(); ++c) {
    const double magnitudes = std::fabs(running.values[c]) + std::fabs(newest.values[c]);
    running.values[c] += momentum * (newest.values[c] - running.values[c]);
    // A difference, a product and a sum round, both here and in the layer.
    running.tolerance[c] +=
        momentum * (newest.tolerance[c] - running.tolerance[c]) + 6 * double_roundoff * magnitudes;
    running.scale[c] = std::max(running.scale[c], newest.scale[c]);
  }
}

}  // namespace syncbn::app::check
