// SPDX-License-Identifier: Apache-2.0
#include "app/check/tolerance.hpp"

#include <cmath>

namespace syncbn::app::check {

Precision precision_of(DType dtype) {
  constexpr double single = 0x1p-24;
  switch (dtype) {
    case DType::f64:
      return {double_roundoff, double_roundoff, 0x1p-1074, 1e-13, 0};
    case DType::f16:
      return {0x1p-11, single, 0x1p-24, 5e-5, 12 * single};
    case DType::bf16:
      return {0x1p-8, single, 0x1p-133, 5e-5, 12 * single};
    case DType::f32:
      break;
  }
  return {single, single, 0x1p-149, 1e-9, 0};
}

Precision precision_of(const Case& one) {
  Precision precision = precision_of(one.dtype);
  if (one.reproducibility == Reproducibility::exact) {
    const bool fine = one.dtype == DType::f64;
    precision.pivot = fine ? 1e-14 : 0x1p-25;
    precision.run = 0;
    precision.half_unit = fine ? 0x1p-84 : 0x1p-34;
  }
  const double slope = one.activation.negative_slope;
  if (slope != 0 && slope != 1) {
    precision.bend = 2 * precision.compute;
  }
  if (one.weighted) {
    precision.run += precision.run > 0 ? precision.compute : double_roundoff;
    precision.weighting = 2 * precision.compute;
  }
  if (sums_on_device(one)) {
    const bool fine = one.dtype == DType::f64;
    precision.pivot = 0;
    precision.run = fine ? 3 * double_roundoff : 11 * precision.compute;
    precision.halves = fine ? 0 : 2 * precision.compute * precision.compute;
  }
  if (one.memory == Memory::recovered) {
    precision.recovers_x = true;
    precision.undone = precision.smallest / slope;
  }
  return precision;
}

double Tolerance::sum() const {
  return 3 * std::sqrt(channel_.terms) * double_roundoff + precision_.run;
}

double Tolerance::units() const {
  return channel_.terms * precision_.half_unit * channel_.dz;
}

double Tolerance::product_units() const {
  return 32 * units() / channel_.invstd;
}

double Tolerance::offset(double distance) const {
  return sum() * std::hypot(1 / channel_.invstd, distance);
}

double Tolerance::distance() const {
  return channel_.summed_twice ? offset(channel_.distance) + pivot_roundoff * channel_.mean
                               : channel_.distance;
}

double Tolerance::variance() const {
  const double k = distance() * channel_.invstd;
  const double growth = k + std::hypot(1, k);
  return precision_.pivot + sum() * growth * growth;
}

double Tolerance::mean() const {
  return precision_.pivot / channel_.invstd + offset(distance()) +
         2 * double_roundoff * channel_.mean;
}

double Tolerance::centered() const {
  return mean() + 2 * precision_.compute * precision_.compute * channel_.mean;
}

double Tolerance::centered_in_sums() const {
  return mean() + precision_.halves * channel_.mean + recovered();
}

double Tolerance::recovered() const {
  if (!precision_.recovers_x) {
    return 0;
  }
  const double roundings = precision_.element + 6 * precision_.compute + precision_.bend;
  return (z() + roundings * channel_.z_terms + precision_.undone) / channel_.scale;
}

double Tolerance::z() const {
  return (6 * precision_.compute + variance() / 2) * channel_.z_terms + channel_.scale * centered();
}

double Tolerance::y() const {
  const double computed = z() + precision_.bend * (channel_.z_terms + z());
  return computed + precision_.element * (channel_.z_terms + computed) + precision_.smallest;
}

double Tolerance::dx() const {
  const Magnitudes& t = channel_;
  const double sums = t.scale / t.count *
                      ((sum() + precision_.bend) * t.sum_dz + units() +
                       t.farthest * t.invstd * t.invstd *
                           ((sum() + precision_.bend) * t.sum_dz_x + product_units() +
                            centered_in_sums() * t.sum_dz));
  const double computed =
      (7 * precision_.compute + precision_.bend + precision_.weighting + 1.5 * variance()) *
          t.dx_terms +
      t.heaviest * (t.scale * t.slope * (centered() + recovered()) + sums);
  return computed + precision_.element * (t.dx_terms + computed) + precision_.smallest;
}

double Tolerance::dresidual() const {
  const bool exact = precision_.bend == 0;
  return exact ? 0 : (precision_.bend + precision_.element) * channel_.dz + precision_.smallest;
}

double Tolerance::weight_grad() const {
  return channel_.invstd *
         ((sum() + precision_.bend + variance() / 2 + 4 * double_roundoff) * channel_.sum_dz_x +
          product_units() + centered_in_sums() * channel_.sum_dz);
}

double Tolerance::bias_grad() const {
  return (sum() + precision_.bend) * channel_.sum_dz + units();
}

double Tolerance::unbiased_var() const {
  const double var_and_eps = 1 / (channel_.invstd * channel_.invstd);
  return (variance() + 4 * double_roundoff) * var_and_eps * channel_.count / (channel_.count - 1);
}

}  // namespace syncbn::app::check
