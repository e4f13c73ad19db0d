// SPDX-License-Identifier: Apache-2.0
#pragma once

// The text of an option's value becomes a number or an enum here.

#include <cstddef>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace syncbn::app {

/// UsageError says that the command line cannot be used. Messages name the option, the value and
/// what is accepted.
class UsageError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A Word is a word that an option accepts, and the value it stands for.
template <class T>
struct Word {
  const char* text;
  T value;
};

/// A Range says which numbers an option accepts.
template <class T>
struct Range {
  T min = std::numeric_limits<T>::lowest();
  T max = std::numeric_limits<T>::max();
  bool min_excluded = false;
  bool max_excluded = false;
};

/// Suggests the word nearest to `text`, if it is near enough for `text` to be a slip: " Did you
/// mean 'sync'?", or "".
std::string did_you_mean(std::string_view text, std::span<const std::string> words);

namespace args {

/// Reads `text` as a number in `range`. Throws UsageError naming `option`. T is one of those of
/// CommandLine::number.
template <class T>
T to_number(std::string_view option, const std::string& text, const Range<T>& range);

template <class T>
std::string number_text(T value);

/// Returns the index of `text` in `words`. Throws UsageError naming `option` and the words.
std::size_t index_of(std::string_view option, std::string_view text,
                     std::span<const std::string> words);

/// Returns the parts of `text` between commas; parts may be empty.
std::vector<std::string> split(std::string_view text);

/// Joins words with commas: "f32, f64, f16".
std::string join(std::span<const std::string> words);

/// Throws UsageError if `index` is already in `indices`.
void refuse_repetition(std::string_view option, std::string_view word, std::size_t index,
                       std::span<const std::size_t> indices);

template <class T, std::size_t n>
std::vector<std::string> texts(const Word<T> (&words)[n]) {
  std::vector<std::string> result;
  for (const Word<T>& word : words) {
    result.emplace_back(word.text);
  }
  return result;
}

template <class T, std::size_t n>
std::string text_of(const T& value, const Word<T> (&words)[n]) {
  for (const Word<T>& word : words) {
    if (word.value == value) {
      return word.text;
    }
  }
  return {};
}

inline std::string with_default(std::string_view meaning, const std::string& value) {
  return std::string(meaning) + " (default: " + value + ")";
}

}  // namespace args

}  // namespace syncbn::app
