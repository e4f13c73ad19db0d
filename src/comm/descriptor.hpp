// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/dtype.hpp"

namespace syncbn::comm {

/// What an exchange is for.
enum class Pass : std::uint8_t {
  forward,
  second_sums,
  backward,
  infer,
  all_reduce,
  all_gather,
  split,
  roll_call  ///< see roll_call.hpp
};

std::string_view to_string(Pass pass);

/// What a layer's pass works with besides x.
enum class Given : std::uint8_t {
  x,         ///< nothing else
  residual,  ///< a residual that is added
  in_place,  ///< x becomes y
  frozen     ///< running statistics, which an infer normalized with
};

/// What a rank believes it is exchanging. The ranks' descriptors must be equal.
struct Descriptor {
  Pass pass = Pass::all_reduce;
  std::string_view layer = {};  ///< empty outside of a layer
  std::int64_t channels = 0;    ///< outside of a layer: the number of values
  DType dtype = DType::f64;
  std::uint64_t shared = 0;       ///< fingerprint of the state that the ranks must share
  std::string_view options = {};  ///< of the layer, as text, which must be the same
  /// Null, or what there is of that state in device memory when the stream has come so far.
  const std::uint64_t* shared_on_device = nullptr;
  std::uint64_t parameters = 0;  ///< fingerprint of gamma and beta, or of some of them
  Given given = Given::x;
};

/// "forward of 'bn1' (C=64, f32)", "forward with a residual of ...".
std::string describe(const Descriptor& what);
/// "forward", "forward with a residual", "forward in place".
std::string describe_call(const Descriptor& what);

/// "rank 3", "ranks 0-2, 5" of ascending numbers.
std::string list_ranks(std::span<const int> ranks);

/// A descriptor as a fixed number of small integers in doubles, so that a sum can carry it. Texts
/// are cut after so many bytes.
inline constexpr std::size_t descriptor_numbers = 13;  ///< words in front of the texts
inline constexpr std::size_t longest_name = 96;
inline constexpr std::size_t longest_options = 96;
inline constexpr std::size_t descriptor_words =
    descriptor_numbers + (longest_name + longest_options) / 4;
void pack(const Descriptor& what, std::int64_t sequence, std::span<double> words);

/// The table of who did what, from every rank's packed descriptor: ranks that agree share a line.
/// Ends in advice that fits the difference. `names`: the ranks' numbers, unless they are 0, 1, ...
/// Throws CommError if a number is none that `pack` writes.
std::string describe_disagreement(std::span<const double> packed, std::span<const int> names = {});

}  // namespace syncbn::comm
