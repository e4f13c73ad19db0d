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
  dx_recovered,           ///< dx with x recovered from y
  weight_grad_recovered,  ///< weight_grad with x recovered from y
};
inline constexpr std::size_t quantities = 9;
inline constexpr std::array<std::string_view, quantities> quantity_names = {
    "y",           "dx",         "dresidual",     "dgamma", "dbeta", "running_mean",
    "running_var", "dx, from y", "dgamma, from y"};

/// A Worst is the error that comes nearest to its tolerance, or exceeds it most.
struct Worst {
  double used = -1;      ///< error / tolerance; -1: nothing compared
  double error = 0;      ///< relative to the quantity's scale
  double tolerance = 0;  ///< relative to the quantity's scale
  double case_index = 0;

  bool compared() const { return used >= 0; }
  bool good() const { return compared() && used <= 1; }
};

/// A Window says which elements of each channel are looked at: [first, first + size) of `whole`.
struct Window {
  std::size_t whole = 1;
  std::size_t first = 0;
  std::size_t size = 1;
};

/// Returns the window of a shard's part of a tensor. For values of which each channel has one, use
/// Window{}.
Window window_of(const Case& one, const Shard& shard);

/// Returns the worst error over all channels. `values` holds the window's elements only. A NaN is
/// infinitely wrong.
Worst worst_of(std::span<const double> values, const Exact& exact, const Window& window);

/// Findings hold the worst error of each dtype and quantity over the cases seen.
class Findings {
 public:
  const Worst& of(DType dtype, Quantity quantity) const;

  /// Adds what worst_of found in the case of that index.
  void add(DType dtype, Quantity quantity, std::size_t case_index, Worst worst);

  /// Collective. Replaces each error by the worst over the ranks.
  void merge(const Communicator& world);

 private:
  static constexpr std::size_t dtypes = 4;
  Worst& at(DType dtype, Quantity quantity);

  std::array<Worst, dtypes * quantities> worst_;
};

}  // namespace syncbn::app::check
