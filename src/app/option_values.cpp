// SPDX-License-Identifier: Apache-2.0
#include "app/option_values.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <system_error>
#include <type_traits>

#include <fmt/format.h>

namespace syncbn::app {
namespace {

/// Returns the Levenshtein distance.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

template <class T>
constexpr const char* kind_of() {
  return std::is_floating_point_v<T> ? "a number" : "an integer";
}

/// Describes a range: " from 1 to 10", " of at least 1", " above 0 and below 1".
template <class T>
std::string range_text(const Range<T>& range) {
  const bool has_min = std::is_unsigned_v<T> || range.min != std::numeric_limits<T>::lowest();
  const bool has_max = range.max != std::numeric_limits<T>::max();
  if (has_min && has_max && !range.min_excluded && !range.max_excluded) {
    return fmt::format(" from {} to {}", range.min, range.max);
  }
  std::string text;
  if (has_min) {
    text += fmt::format(" {} {}", range.min_excluded ? "above" : "of at least", range.min);
  }
  if (has_max) {
    text += fmt::format("{} {} {}", has_min ? " and" : "", range.max_excluded ? "below" : "at most",
                        range.max);
  }
  return text;
}

template <class T>
bool contains(const Range<T>& range, T value) {
  const bool above = range.min_excluded ? value > range.min : value >= range.min;
  const bool below = range.max_excluded ? value < range.max : value <= range.max;
  return above && below;
}

}  // namespace

std::string did_you_mean(std::string_view text, std::span<const std::string> words) {
  const auto nearest =
      std::min_element(words.begin(), words.end(), [&](const std::string& a, const std::string& b) {
        return edit_distance(text, a) < edit_distance(text, b);
      });
  if (nearest == words.end() ||
      edit_distance(text, *nearest) > std::max<std::size_t>(1, text.size() / 3)) {
    return {};
  }
  return fmt::format(" Did you mean '{}'?", *nearest);
}

namespace args {

template <class T>
T to_number(std::string_view option, const std::string& text, const Range<T>& range) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  bool good = error == std::errc() && stop == end && contains(range, value);
  if constexpr (std::is_floating_point_v<T>) {
    good = good && std::isfinite(value);
  }
  if (!good) {
    throw UsageError(fmt::format("--{} must be {}{} (it is '{}').", option, kind_of<T>(),
                                 range_text(range), text));
  }
  return value;
}

template <class T>
std::string number_text(T value) {
  return fmt::format("{}", value);
}

template int to_number(std::string_view, const std::string&, const Range<int>&);
template std::int64_t to_number(std::string_view, const std::string&, const Range<std::int64_t>&);
template std::uint64_t to_number(std::string_view, const std::string&, const Range<std::uint64_t>&);
template double to_number(std::string_view, const std::string&, const Range<double>&);
template std::string number_text(int);
template std::string number_text(std::int64_t);
template std::string number_text(std::uint64_t);
template std::string number_text(double);

std::size_t index_of(std::string_view option, std::string_view text,
                     std::span<const std::string> words) {
  const auto found = std::find(words.begin(), words.end(), text);
  if (found == words.end()) {
    throw UsageError(fmt::format("--{} does not accept '{}' (accepted: {}).{}", option, text,
                                 join(words), did_you_mean(text, words)));
  }
  return static_cast<std::size_t>(found - words.begin());
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(comma + 1);
  }
}

std::string join(std::span<const std::string> words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

void refuse_repetition(std::string_view option, std::string_view word, std::size_t index,
                       std::span<const std::size_t> indices) {
  if (std::find(indices.begin(), indices.end(), index) != indices.end()) {
    throw UsageError(fmt::format("--{} names '{}' twice. Give each word once.", option, word));
  }
}

}  // namespace args

}  // namespace syncbn::app
