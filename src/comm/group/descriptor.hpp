// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/dtype.hpp"

#include "core/internal_api.hpp"

namespace syncbn::comm {

/// The call that an exchange belongs to.
enum class Operation : std::uint8_t {
  forward,
  second_sums,
  backward,
  infer,
  all_reduce,
  all_gather,
  split,
  roll_call  ///< an all-gather of what each rank is doing, see roll_call.hpp
};

std::string_view to_string(Operation operation);

/// The variant of a layer's pass: what it works with besides x. All ranks must take the same one.
enum class Given : std::uint8_t {
  x,         ///< nothing else
  residual,  ///< a residual that is added
  in_place,  ///< x becomes y
  frozen     ///< the running statistics, in a backward behind an infer
};

/// What a rank believes it is exchanging. The ranks' descriptors must be equal.
struct Descriptor {
  Operation operation = Operation::all_reduce;
  std::string_view layer = {};  ///< empty outside of a layer
  std::int64_t channels = 0;    ///< C; outside of a layer the number of values
  DType dtype = DType::f64;
  std::uint64_t shared = 0;       ///< fingerprint of the state that the ranks must share
  std::string_view options = {};  ///< the layer's options, as text
  std::uint64_t parameters = 0;   ///< fingerprint of gamma and beta, or of some of them
  Given given = Given::x;
};

/// Returns "forward of 'bn1' (C=64, f32)", "forward with a residual of ...".
SYNCBN_INTERNAL_API std::string describe(const Descriptor& what);
/// Returns "forward", "forward with a residual", "forward in place".
std::string describe_call(const Descriptor& what);

/// Returns "rank 3", "ranks 0-2, 5". `ranks` ascend.
SYNCBN_INTERNAL_API std::string list_ranks(std::span<const int> ranks);

// A packed descriptor is a fixed number of doubles that hold small integers, so that a sum can
// carry it: first the numbers, then the two texts, 4 bytes in each double.
inline constexpr std::size_t descriptor_numbers = 13;  ///< doubles in front of the texts
inline constexpr std::size_t longest_name = 96;        ///< bytes; longer names are cut
inline constexpr std::size_t longest_options = 96;     ///< bytes; longer texts are cut
inline constexpr std::size_t descriptor_words =
    descriptor_numbers + (longest_name + longest_options) / 4;
/// Writes a descriptor and the number of its message into [descriptor_words] doubles.
SYNCBN_INTERNAL_API void pack(const Descriptor& what, std::int64_t sequence,
                              std::span<double> words);

/// Returns a table of who did what, from every rank's packed descriptor; ranks that agree share a
/// line. It ends in advice that fits the difference. `names` are the ranks' numbers, unless they
/// are 0, 1, ... Throws CommError if a double holds no integer of the kind that `pack` writes
/// there.
SYNCBN_INTERNAL_API std::string describe_disagreement(std::span<const double> packed,
                                                      std::span<const int> names = {});

}  // namespace syncbn::comm
