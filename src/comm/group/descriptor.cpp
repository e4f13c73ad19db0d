// SPDX-License-Identifier: Apache-2.0
#include "comm/group/descriptor.hpp"

#include <algorithm>
#include <map>

#include "core/utf8.hpp"

#include "comm/group/packed_bytes.hpp"
#include "comm/group/whole_number.hpp"

namespace syncbn::comm {
namespace {

constexpr std::size_t bytes_per_word = 4;
constexpr std::size_t name_words = longest_name / bytes_per_word;
constexpr std::size_t options_words = longest_options / bytes_per_word;

struct Unpacked {
  std::string name;
  std::string options;
  Descriptor what;  // without its texts, which are above
  std::int64_t sequence = 0;

  /// Ranks that differ in these make different calls; others differ in a layer's options or state.
  auto place() const {
    return std::tuple(sequence, what.operation, what.given, name, what.channels, what.dtype);
  }
  auto key() const { return std::tuple(place(), options, what.parameters, what.shared); }
  friend bool operator<(const Unpacked& a, const Unpacked& b) { return a.key() < b.key(); }
};

std::string unpack_text(std::span<const double> words) {
  std::string text(words.size() * bytes_per_word, '\0');
  unpack_bytes(words, std::as_writable_bytes(std::span(text)));
  std::erase(text, '\0');
  return text;
}

void pack_text(std::string_view text, std::span<double> words) {
  pack_bytes(std::as_bytes(std::span(text)), words);
}

std::uint64_t unpack_bits(std::span<const double, 4> words) {
  std::uint64_t bits = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    bits |= std::uint64_t{whole_number<std::uint16_t>(words[i])} << (16 * i);
  }
  return bits;
}

void pack_bits(std::uint64_t bits, std::span<double, 4> words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = static_cast<double>((bits >> (16 * i)) & 0xffff);
  }
}

Unpacked unpack(std::span<const double> words) {
  Unpacked result;
  result.sequence = whole_number<std::int64_t>(words[0]);
  result.what.operation = static_cast<Operation>(whole_number<std::uint8_t>(words[1]));
  result.what.channels = whole_number<std::int64_t>(words[2]);
  result.what.dtype = static_cast<DType>(whole_number<std::uint8_t>(words[3]));
  result.what.shared = unpack_bits(words.subspan<4, 4>());
  result.what.parameters = unpack_bits(words.subspan<8, 4>());
  result.what.given = static_cast<Given>(whole_number<std::uint8_t>(words[12]));
  result.name = unpack_text(words.subspan(descriptor_numbers, name_words));
  result.options = unpack_text(words.subspan(descriptor_numbers + name_words, options_words));
  return result;
}

std::string describe(std::string_view name, const Descriptor& what) {
  const std::string text = describe_call(what);
  if (name.empty()) {
    return text + " of " + std::to_string(what.channels) + " values";
  }
  return text + " of '" + std::string(name) + "' (C=" + std::to_string(what.channels) + ", " +
         std::string(to_string(what.dtype)) + ")";
}

}  // namespace

std::string_view to_string(Operation operation) {
  switch (operation) {
    case Operation::forward:
      return "forward";
    case Operation::second_sums:
      return "second sums about the mean";
    case Operation::backward:
      return "backward";
    case Operation::infer:
      return "infer with batch statistics";
    case Operation::all_reduce:
      return "all_reduce";
    case Operation::all_gather:
      return "all_gather";
    case Operation::split:
      return "split";
    case Operation::roll_call:
      return "roll call";
  }
  return "?";
}

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
  return describe(what.layer, what);
}

std::string describe_call(const Descriptor& what) {
  std::string text(to_string(what.operation));
  switch (what.given) {
    case Given::x:
      break;
    case Given::residual:
      return text + " with a residual";
    case Given::in_place:
      return text + " in place";
    case Given::frozen:
      return text + " behind an infer";
  }
  return text;
}

void pack(const Descriptor& what, std::int64_t sequence, std::span<double> words) {
  words[0] = static_cast<double>(sequence);
  words[1] = static_cast<double>(what.operation);
  words[2] = static_cast<double>(what.channels);
  words[3] = static_cast<double>(what.dtype);
  pack_bits(what.shared, words.subspan<4, 4>());
  pack_bits(what.parameters, words.subspan<8, 4>());
  words[12] = static_cast<double>(what.given);
  pack_text(cut_to(what.layer, longest_name), words.subspan(descriptor_numbers, name_words));
  pack_text(cut_to(what.options, longest_options),
            words.subspan(descriptor_numbers + name_words, options_words));
}

std::string describe_disagreement(std::span<const double> packed, std::span<const int> names) {
  std::map<Unpacked, std::vector<int>> who;
  for (std::size_t rank = 0; rank * descriptor_words < packed.size(); ++rank) {
    who[unpack(packed.subspan(rank * descriptor_words, descriptor_words))].push_back(
        names.empty() ? static_cast<int>(rank) : names[rank]);
  }
  const std::vector<double> nothing(descriptor_words, 0.0);
  if (who.contains(unpack(nothing))) {
    return "the all-reduce did not add up the ranks' messages";
  }
  if (who.size() == 1) {
    return "the ranks disagree on what they exchange: " +
           describe(who.begin()->first.name, who.begin()->first.what) +
           ", with names or options that differ after " +
           std::to_string(name_words * bytes_per_word) + " bytes, or of different lengths";
  }
  const Unpacked& first = who.begin()->first;
  const auto all = [&](auto same) {
    return std::ranges::all_of(who, [&](const auto& entry) { return same(entry.first); });
  };
  const bool same_place = all([&](const Unpacked& u) { return u.place() == first.place(); });
  const bool same_options = all([&](const Unpacked& u) { return u.options == first.options; });
  const bool same_parameters =
      all([&](const Unpacked& u) { return u.what.parameters == first.what.parameters; });

  std::string text = "the ranks disagree on what they exchange:";
  for (const auto& [unpacked, ranks] : who) {
    text += "\n  " + list_ranks(ranks) + ": exchange #" + std::to_string(unpacked.sequence) + ", " +
            describe(unpacked.name, unpacked.what);
    if (same_place && !same_options) {
      text += " with " + unpacked.options;
    } else if (same_place && !same_parameters) {
      text += ", gamma and beta no. " + std::to_string(unpacked.what.parameters % 100000);
    } else if (same_place) {
      text += ", running statistics no. " + std::to_string(unpacked.what.shared % 100000);
    }
  }
  if (!same_place) {
    return text +
           "\nEvery rank must call the same layers, with the same channels and type, in the same "
           "order, all with a residual or none, all in place or none. Did a rank skip a layer, or "
           "use another model or mode?";
  }
  if (!same_options) {
    return text + "\nGive the layer the same options on every rank.";
  }
  if (!same_parameters) {
    return text +
           "\nThe layer's gamma or beta differ. Begin with the same on every rank and add up their "
           "gradients over the ranks, or if they are to differ set compare_parameters to false.";
  }
  return text +
         "\nThe layer's running mean, its other history or its number of blocks differ (on a "
         "device, maybe gamma or beta). Load the same state on every rank.";
}

}  // namespace syncbn::comm
