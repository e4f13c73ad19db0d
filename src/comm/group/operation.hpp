// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "comm/group/fixed_text.hpp"

namespace syncbn::comm {

inline constexpr std::size_t longest_operation = 48;  ///< bytes of an operation's text
inline constexpr std::size_t longest_unit = 8;        ///< bytes of what its count is called
inline constexpr std::size_t most_facts = 4;          ///< facts of a message

/// Says what a fact is called, and what to do if the ranks differ in it.
struct FactWords {
  FixedText<32> name = {};  ///< shown as "NAME no. 12345", or as "2 NAME" if there is a singular
  FixedText<32> one = {};   ///< the singular of a count's name: shown as "1 ONE"
  FixedText<256> advice = {};
};

/// Names a kind of exchange, and has the words for the facts that its messages carry. It is a
/// constant of whoever exchanges; this part of the library prints the words and knows nothing of
/// their meaning. Two operations are the same if their texts are.
struct Operation {
  constexpr Operation() = default;
  constexpr explicit Operation(std::string_view name, std::string_view unit_of_count = "n",
                               std::string_view advice_if_others_differ = same_calls,
                               const std::array<FactWords, most_facts>& words_of_facts = {})
      : text(name),
        unit(unit_of_count),
        advice(advice_if_others_differ),
        facts(words_of_facts),
        hash(hash_of(name)) {}

  FixedText<longest_operation> text;  ///< "all_reduce"
  FixedText<longest_unit> unit;       ///< what the count is called behind a subject: "n" for "n=64"
  FixedText<256> advice;              ///< for ranks that do not make the same calls
  std::array<FactWords, most_facts> facts;
  std::uint64_t hash = 0;  ///< of the text, for fingerprints

  static constexpr std::string_view same_calls =
      "Every rank must make the same calls in the same order, with as many values. Did a rank skip "
      "a call, or take another branch?";

 private:
  // This is FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
  static constexpr std::uint64_t hash_of(std::string_view text) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : text) {
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    }
    return hash;
  }
};

/// These are the operations of communicators themselves.
namespace operations {
inline constexpr Operation all_reduce{"all_reduce"};
inline constexpr Operation all_gather{"all_gather"};
inline constexpr Operation split{"split"};
/// An all-gather of what each rank is doing, see roll_call.hpp.
inline constexpr Operation roll_call{"roll call"};
}  // namespace operations

}  // namespace syncbn::comm
