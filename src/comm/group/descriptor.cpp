// SPDX-License-Identifier: Apache-2.0
#include "comm/group/descriptor.hpp"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "core/utf8.hpp"

#include "comm/group/packed_bytes.hpp"
#include "comm/group/whole_number.hpp"

namespace syncbn::comm {
namespace {

constexpr std::size_t bytes_per_word = 4;
constexpr std::size_t words_per_fact = 4;
/// Bytes of the texts of a packed descriptor, in their order.
constexpr std::array texts{longest_operation, longest_unit, longest_subject, longest_options};

/// A descriptor that was packed, perhaps by another process.
struct Unpacked {
  std::int64_t sequence = 0;
  std::string operation, unit, subject, options;
  std::int64_t count = 0;
  DType dtype = DType::f64;
  Facts facts = {};

  /// Ranks that differ in this make different calls; others differ in options or facts.
  auto call() const { return std::tie(sequence, operation, subject, count, dtype); }
  auto key() const { return std::tuple_cat(call(), std::tie(unit, options, facts)); }
  friend bool operator<(const Unpacked& a, const Unpacked& b) { return a.key() < b.key(); }
};

using Who = std::map<Unpacked, std::vector<int>>;

/// Visits the places of the texts among the words.
template <class Words, class Visit>
void for_each_text(Words words, Visit visit) {
  std::size_t begin = descriptor_numbers;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    visit(i, words.subspan(begin, texts[i] / bytes_per_word));
    begin += texts[i] / bytes_per_word;
  }
}

std::string unpack_text(std::span<const double> words) {
  std::string text(words.size() * bytes_per_word, '\0');
  unpack_bytes(words, std::as_writable_bytes(std::span(text)));
  std::erase(text, '\0');
  return text;
}

std::uint64_t unpack_bits(std::span<const double> words) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    bits |= std::uint64_t{whole_number<std::uint16_t>(words[i])} << (16 * i);
  }
  return bits;
}

void pack_bits(std::uint64_t bits, std::span<double> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<double>((bits >> (16 * i)) & 0xffff);
  }
}

template <class Words>
auto words_of_fact(Words words, std::size_t fact) {
  return words.subspan(descriptor_numbers - words_per_fact * (most_facts - fact), words_per_fact);
}

Unpacked unpack(std::span<const double> words) {
  Unpacked result;
  result.sequence = whole_number<std::int64_t>(words[0]);
  result.count = whole_number<std::int64_t>(words[1]);
  result.dtype = static_cast<DType>(whole_number<std::uint8_t>(words[2]));
  for (std::size_t fact = 0; fact < most_facts; ++fact) {
    result.facts[fact] = unpack_bits(words_of_fact(words, fact));
  }
  const std::array to{&result.operation, &result.unit, &result.subject, &result.options};
  for_each_text(words,
                [&](std::size_t i, std::span<const double> from) { *to[i] = unpack_text(from); });
  return result;
}

std::string describe(std::string_view operation, std::string_view unit, std::string_view subject,
                     std::int64_t count, DType dtype) {
  std::string text(operation);
  if (subject.empty()) {
    return text + " of " + std::to_string(count) + " values";
  }
  return text.append(" of '").append(subject).append("' (").append(unit) + "=" +
         std::to_string(count) + ", " + std::string(to_string(dtype)) + ")";
}

std::string describe(const Unpacked& what) {
  return describe(what.operation, what.unit, what.subject, what.count, what.dtype);
}

std::string describe(const FactWords& words, std::uint64_t value) {
  if (words.one.empty()) {
    constexpr std::uint64_t shown = 100000;
    const std::string_view name = words.name.empty() ? "state" : words.name.view();
    return std::string(name) + " no. " + std::to_string(value % shown);
  }
  return std::to_string(value) + " " + std::string((value == 1 ? words.one : words.name).view());
}

Who who_did_what(std::span<const double> packed, std::span<const int> names) {
  Who who;
  for (std::size_t rank = 0; rank * descriptor_words < packed.size(); ++rank) {
    who[unpack(packed.subspan(rank * descriptor_words, descriptor_words))].push_back(
        names.empty() ? static_cast<int>(rank) : names[rank]);
  }
  return who;
}

/// Says in what the ranks differ: in their calls, or else in options, or else in facts.
struct Difference {
  bool in_options = false;
  std::vector<std::size_t> in_facts;
};

Difference difference_in(const Who& who) {
  const Unpacked& first = who.begin()->first;
  const auto any_differs = [&](auto field) {
    return std::ranges::any_of(
        who, [&](const auto& entry) { return field(entry.first) != field(first); });
  };
  Difference difference;
  if (any_differs([](const Unpacked& what) { return what.call(); })) {
    return difference;
  }
  difference.in_options = any_differs([](const Unpacked& what) { return what.options; });
  for (std::size_t fact = 0; fact < most_facts && !difference.in_options; ++fact) {
    if (any_differs([fact](const Unpacked& what) { return what.facts[fact]; })) {
      difference.in_facts.push_back(fact);
    }
  }
  return difference;
}

/// Returns the advice on the first fact that differs, if it has any, or else on other calls.
std::string_view advice(const Operation& own, const Difference& difference) {
  if (!difference.in_facts.empty()) {
    const FactWords& words = own.facts[difference.in_facts.front()];
    return words.advice.empty() ? own.advice.view() : words.advice.view();
  }
  return own.advice.view();
}

}  // namespace

std::string list_ranks(std::span<const int> ranks) {
  std::string text(ranks.size() == 1 ? "rank " : "ranks ");
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) {
      ++last;
    }
    text += i == 0 ? "" : ", ";
    text += std::to_string(ranks[i]);
    if (last > i) {
      text += '-';
      text += std::to_string(ranks[last]);
    }
    i = last + 1;
  }
  return text;
}

std::string describe(const Descriptor& what) {
  return describe(what.operation->text.view(), what.operation->unit.view(), what.subject,
                  what.count, what.dtype);
}

void pack(const Descriptor& what, std::int64_t sequence, std::span<double> words) {
  words[0] = static_cast<double>(sequence);
  words[1] = static_cast<double>(what.count);
  words[2] = static_cast<double>(what.dtype);
  for (std::size_t fact = 0; fact < most_facts; ++fact) {
    pack_bits(what.facts[fact], words_of_fact(words, fact));
  }
  const std::array from{what.operation->text.view(), what.operation->unit.view(), what.subject,
                        what.options};
  for_each_text(words, [&](std::size_t i, std::span<double> to) {
    pack_bytes(std::as_bytes(std::span(cut_to(from[i], texts[i]))), to);
  });
}

std::string describe_disagreement(const Operation& own, std::span<const double> packed,
                                  std::span<const int> names) {
  const Who who = who_did_what(packed, names);
  const std::vector<double> nothing(descriptor_words, 0.0);
  if (who.contains(unpack(nothing))) {
    return "the all-reduce did not add up the ranks' messages";
  }
  const Unpacked& first = who.begin()->first;
  std::string text = "the ranks disagree on what they exchange:";
  if (who.size() == 1) {
    return text + " " + describe(first) + ", with names or options that differ after " +
           std::to_string(longest_subject) + " bytes, or of different lengths";
  }
  const Difference difference = difference_in(who);
  for (const auto& [what, ranks] : who) {
    text += "\n  " + list_ranks(ranks) + ": exchange #" + std::to_string(what.sequence) + ", " +
            describe(what) + (difference.in_options ? " with " + what.options : "");
    for (const std::size_t fact : difference.in_facts) {
      text += ", " + describe(own.facts[fact], what.facts[fact]);
    }
  }
  if (difference.in_options) {
    return text + "\nGive " + (first.subject.empty() ? "" : "'" + first.subject + "' ") +
           "the same options on every rank.";
  }
  return text + "\n" + std::string(advice(own, difference));
}

}  // namespace syncbn::comm
