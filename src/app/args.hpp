// SPDX-License-Identifier: Apache-2.0
#pragma once

// The command line is parsed here, once; the rest of the tool sees values.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "syncbn/communicator.hpp"

#include "app/device_kind.hpp"
#include "app/option_values.hpp"

namespace syncbn::app {

using Arguments = std::vector<std::string>;

/// RunsOn says on which devices a subcommand's layers can be.
enum class RunsOn : std::uint8_t { cpu, cpu_or_cuda };

/// Summation says who sums over the ranks: this library, the MPI library, or NCCL in the devices'
/// memory.
enum class Summation { builtin, mpi, nccl };

/// ExchangeOptions hold what every subcommand's General options say about how ranks exchange.
struct ExchangeOptions {
  Deadlines deadlines;
  std::optional<Summation> summation;   ///< none: the library's choice
  std::filesystem::path flight_record;  ///< directory; empty: no flight records
};

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
///   if (!line.parse(arguments)) print(line.help());
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

  /// Stores the values that `arguments` give. Returns false if they ask for --help; then nothing is
  /// stored. Throws UsageError, and InvalidArgument if the environment's timeout cannot be used.
  [[nodiscard]] bool parse(const Arguments& arguments);

  /// Returns whether the user gave the option. Call it after parse.
  bool given(std::string_view name) const;

  /// Returns what was typed, for a shell: "syncbn bench --batch 8". Call it after parse.
  std::string text() const;

  /// Returns the value of --device. Call it after parse.
  DeviceKind device() const;

  /// Returns how ranks exchange, by the arguments and the environment. Call it after parse.
  const ExchangeOptions& exchange() const;

  std::string help() const;

 private:
  using Take = std::function<void(const std::string& text)>;
  void add(std::string_view name, std::string_view unit, std::string meaning, Take take);

  struct Description;
  std::unique_ptr<Description> description_;
};

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
