// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/check/expected.hpp"

namespace syncbn::app::check {

enum class Quantity : std::uint8_t {
  y,
  dx,
  dresidual,
  weight_grad,
  bias_grad,
  running_mean,
  running_var,
  dx_recovered,           ///< with x recovered from y
  weight_grad_recovered,  ///< likewise
};
inline constexpr std::size_t quantities = 9;
inline constexpr std::array<std::string_view, quantities> quantity_names = {
    "y",           "dx",         "dresidual",     "dgamma", "dbeta", "running_mean",
    "running_var", "dx, from y", "dgamma, from y"};

/// The error that comes nearest to its tolerance, or exceeds it most.
struct Worst {
  double used = -1;      ///< error / tolerance; -1: nothing compared
  double error = 0;      ///< relative to the quantity's scale
  double tolerance = 0;  ///< likewise
  double case_index = 0;

  bool compared() const { return used >= 0; }
  bool good() const { return compared() && used <= 1; }
};

/// Which elements of each channel are looked at: [first, first + size) of `whole`.
struct Window {
  std::size_t whole = 1;
  std::size_t first = 0;
  std::size_t size = 1;
};

/// A shard's part of a tensor. For values of which there is one a channel: Window{}.
Window window_of(const Case& one, const Shard& shard);

/// Over all channels. `values` are the window's alone. A NaN is infinitely wrong.
Worst worst_of(std::span<const double> values, const Exact& exact, const Window& window);

/// The worst of each dtype and quantity over the cases seen.
class Findings {
 public:
  const Worst& of(DType dtype, Quantity quantity) const;

  /// What worst_of found in the case of that index.
  void add(DType dtype, Quantity quantity, std::size_t case_index, Worst worst);

  /// Collective. The worst over the ranks, everywhere.
  void merge(const Communicator& world);

 private:
  static constexpr std::size_t dtypes = 4;
  Worst& at(DType dtype, Quantity quantity);

  std::array<Worst, dtypes * quantities> worst_;
};

}  // namespace syncbn::app::check
