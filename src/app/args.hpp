// SPDX-License-Identifier: Apache-2.0
#pragma once

// Text from the command line becomes numbers and enums here; the rest of the tool sees values.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "app/command.hpp"
#include "app/device.hpp"

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

/// RunsOn says on which devices a subcommand's layers can be.
enum class RunsOn : std::uint8_t { cpu, cpu_or_cuda };

/// A CommandLine holds the options of one subcommand. Each is bound to a variable, whose value at
/// that time is the default; --help is written from the same declarations.
///
///   int batch = 32;
///   Mode mode = Mode::sync;
///   CommandLine line("demo", "Show how options are declared.");
///   line.section("Work");
///   line.number("batch-size", batch, {.min = 1}, "N", "samples per step");
///   line.choice("mode", mode, mode_words, "what to do");
///   line.example("syncbn demo --mode local", "without exchange");
///   if (!line.parse(arguments, world)) return 0;
class CommandLine {
 public:
  /// Declares the General options: --help, those of ExchangeOptions, and if there is a choice,
  /// --device.
  CommandLine(std::string_view command, std::string_view purpose, RunsOn devices = RunsOn::cpu);
  ~CommandLine();

  /// Sets the caption under which --help shows the options that follow.
  void section(std::string_view caption);

  /// Declares an option with a number. `name` is without dashes. `unit` stands for the value in
  /// --help: "N", "SECONDS". T is int, std::int64_t, std::uint64_t or double (finite).
  template <class T>
  void number(std::string_view name, T& value, const Range<std::type_identity_t<T>>& range,
              std::string_view unit, std::string_view meaning);
  /// Declares an option whose `value` stays empty unless given. `if_absent` tells the user what
  /// happens then.
  template <class T>
  void number(std::string_view name, std::optional<T>& value,
              const Range<std::type_identity_t<T>>& range, std::string_view unit,
              std::string_view meaning, std::string_view if_absent);
  /// Declares an option with one word of `words`, which is a static array, e.g. of Word<DType>.
  template <class T, std::size_t n>
  void choice(std::string_view name, T& value, const Word<T> (&words)[n], std::string_view meaning);
  /// Declares an option with one or more words, separated by commas, none twice.
  template <class T, std::size_t n>
  void choices(std::string_view name, std::vector<T>& values, const Word<T> (&words)[n],
               std::string_view meaning);
  void flag(std::string_view name, bool& value, std::string_view meaning);
  void text(std::string_view name, std::string& value, std::string_view unit,
            std::string_view meaning);
  /// Declares an option with a path; an empty one means none.
  void path(std::string_view name, std::filesystem::path& value, std::string_view unit,
            std::string_view meaning);

  /// Makes `parse` refuse arguments that give both of these options.
  void exclude(std::string_view one, std::string_view other);
  /// Adds an example, shown at the end of --help.
  void example(std::string_view command, std::string_view effect);

  /// Stores the values that `arguments` give. If they ask for --help, prints it on rank 0 and
  /// returns false: then the command is done. Throws UsageError.
  [[nodiscard]] bool parse(const Arguments& arguments, const World& world);

  /// Returns whether the user gave the option. Call it after parse.
  bool given(std::string_view name) const;

  /// Returns the value of --device. Call it after parse.
  Device device() const;

  std::string help() const;

 private:
  using Take = std::function<void(const std::string& text)>;
  void add(std::string_view name, std::string_view unit, std::string meaning, Take take);

  struct Description;
  std::unique_ptr<Description> description_;
};

/// Summation says who sums over the ranks: this library, the MPI library, or NCCL in the devices'
/// memory.
enum class Summation { builtin, mpi, nccl };

/// ExchangeOptions hold what every subcommand's General options say about how ranks exchange.
struct ExchangeOptions {
  Deadlines deadlines;
  std::optional<Summation> summation;   ///< none: the library's choice
  std::filesystem::path flight_record;  ///< directory; empty: no flight records
};

/// Returns the exchange options in the arguments of any subcommand. They are needed before the
/// communicator is made, and so before the subcommand parses. Throws UsageError.
ExchangeOptions exchange_options_of(const Arguments& arguments);

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

template <class T>
void CommandLine::number(std::string_view name, T& value,
                         const Range<std::type_identity_t<T>>& range, std::string_view unit,
                         std::string_view meaning) {
  add(name, unit, args::with_default(meaning, args::number_text(value)),
      [&value, range, option = std::string(name)](const std::string& text) {
        value = args::to_number<T>(option, text, range);
      });
}

template <class T>
void CommandLine::number(std::string_view name, std::optional<T>& value,
                         const Range<std::type_identity_t<T>>& range, std::string_view unit,
                         std::string_view meaning, std::string_view if_absent) {
  add(name, unit, args::with_default(meaning, std::string(if_absent)),
      [&value, range, option = std::string(name)](const std::string& text) {
        value = args::to_number<T>(option, text, range);
      });
}

template <class T, std::size_t n>
void CommandLine::choice(std::string_view name, T& value, const Word<T> (&words)[n],
                         std::string_view meaning) {
  const std::vector<std::string> accepted = args::texts(words);
  add(name, "WORD",
      args::with_default(std::string(meaning) + ": " + args::join(accepted),
                         args::text_of(value, words)),
      [&value, &words, accepted, option = std::string(name)](const std::string& text) {
        value = words[args::index_of(option, text, accepted)].value;
      });
}

template <class T, std::size_t n>
void CommandLine::choices(std::string_view name, std::vector<T>& values, const Word<T> (&words)[n],
                          std::string_view meaning) {
  const std::vector<std::string> accepted = args::texts(words);
  std::vector<std::string> defaults;
  for (const T& value : values) {
    defaults.push_back(args::text_of(value, words));
  }
  add(name, "WORD,..",
      args::with_default(std::string(meaning) + ": some of " + args::join(accepted),
                         defaults.empty() ? "none" : args::join(defaults)),
      [&values, &words, accepted, option = std::string(name)](const std::string& text) {
        std::vector<std::size_t> indices;
        values.clear();
        for (const std::string& part : args::split(text)) {
          const std::size_t index = args::index_of(option, part, accepted);
          args::refuse_repetition(option, part, index, indices);
          indices.push_back(index);
          values.push_back(words[index].value);
        }
      });
}

}  // namespace syncbn::app
