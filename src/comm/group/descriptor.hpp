// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/dtype.hpp"

#include "core/internal_api.hpp"

#include "comm/group/operation.hpp"

namespace syncbn::comm {

/// Numbers that the ranks of a message must have in common, counts or fingerprints. What each says
/// and is called is the operation's to know (Operation::facts); 0 says nothing.
using Facts = std::array<std::uint64_t, most_facts>;

/// What a rank believes it is exchanging. The ranks' descriptors must be equal.
struct Descriptor {
  const Operation* operation = &operations::all_reduce;  ///< never null; a constant, see Operation
  std::string_view subject =
      {};                  ///< the name of what the values are of; empty if they are just values
  std::int64_t count = 0;  ///< the subject's size; without a subject the number of values
  DType dtype = DType::f64;
  std::string_view options = {};  ///< how the values come about, as text
  Facts facts = {};
};

/// Returns "delivery of 'apples' (crates=64, f32)", or "all_reduce of 5 values".
SYNCBN_INTERNAL_API std::string describe(const Descriptor& what);

/// Returns "rank 3", "ranks 0-2, 5". `ranks` ascend.
SYNCBN_INTERNAL_API std::string list_ranks(std::span<const int> ranks);

// A packed descriptor is a fixed number of doubles that hold small integers, so that a sum can
// carry it: first the numbers, then the texts, 4 bytes in each double.
inline constexpr std::size_t descriptor_numbers = 3 + 4 * most_facts;  ///< doubles before the texts
inline constexpr std::size_t longest_subject = 96;  ///< bytes; longer names are cut
inline constexpr std::size_t longest_options = 96;  ///< bytes; longer texts are cut
inline constexpr std::size_t descriptor_words =
    descriptor_numbers + (longest_operation + longest_unit + longest_subject + longest_options) / 4;
/// Writes a descriptor and the number of its message into [descriptor_words] doubles.
SYNCBN_INTERNAL_API void pack(const Descriptor& what, std::int64_t sequence,
                              std::span<double> words);

/// Returns a table of who did what, from every rank's packed descriptor; ranks that agree share a
/// line. It ends in advice that fits the difference. Words of facts and advice are those of `own`,
/// which is what one of the ranks did. `names` are the ranks' numbers, unless they are 0, 1, ...
/// Throws CommError if a double holds no integer of the kind that `pack` writes there.
SYNCBN_INTERNAL_API std::string describe_disagreement(const Operation& own,
                                                      std::span<const double> packed,
                                                      std::span<const int> names = {});

}  // namespace syncbn::comm
