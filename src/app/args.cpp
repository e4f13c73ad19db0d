// SPDX-License-Identifier: Apache-2.0
#include "app/args.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include <boost/program_options.hpp>
#include <fmt/format.h>

#include "app/print.hpp"

namespace po = boost::program_options;

namespace syncbn::app {
namespace {

constexpr unsigned help_width = 100;
constexpr unsigned meaning_width = 68;
// Options cannot be abbreviated, so that a script means the same when options are added, and there
// are no short ones, so that "-1" is a number.
constexpr int style = po::command_line_style::allow_long | po::command_line_style::long_allow_next |
                      po::command_line_style::long_allow_adjacent;
constexpr Range<double> timeout_range{.min = 0, .max = 1e6, .min_excluded = true};
constexpr Word<Summation> summation_words[] = {
    {"builtin", Summation::builtin}, {"mpi", Summation::mpi}, {"nccl", Summation::nccl}};
constexpr Word<Summation> cpu_summation_words[] = {{"builtin", Summation::builtin},
                                                   {"mpi", Summation::mpi}};
constexpr Word<Device> device_words[] = {{"cpu", Device::cpu}, {"cuda", Device::cuda}};

double seconds_of(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(std::max<std::int64_t>(1, std::llround(seconds * 1000)));
}

/// Returns the value of an option in arguments that have not been parsed; the last one counts.
std::optional<std::string> value_of(std::string_view option, const Arguments& arguments) {
  std::optional<std::string> text;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == option && i + 1 < arguments.size()) {
      text = arguments[i + 1];
    } else if (argument.starts_with(std::string(option) + "=")) {
      text = argument.substr(option.size() + 1);
    }
  }
  return text;
}

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

bool is_help(const std::string& argument) {
  return argument == "--help" || argument == "-h";
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

struct CommandLine::Description {
  std::string command;
  std::string purpose;
  std::deque<po::options_description> sections;
  std::vector<std::string> names;
  std::set<std::string> with_value;
  std::map<std::string, Take> takes;
  std::vector<std::pair<std::string, std::string>> exclusions;
  std::vector<std::pair<std::string, std::string>> examples;
  std::set<std::string> given;
  double timeout = seconds_of(default_timeout);
  double report_after = seconds_of(default_report);
  Summation summation = Summation::builtin;
  Device device = Device::cpu;
  std::filesystem::path flight_record;

  po::options_description all() const {
    po::options_description result;
    for (const po::options_description& section : sections) {
      result.add(section);
    }
    return result;
  }

  [[noreturn]] void refuse_unknown(const std::string& option) const {
    std::vector<std::string> accepted;
    for (const std::string& name : names) {
      accepted.push_back("--" + name);
    }
    throw UsageError(fmt::format("there is no option {} (accepted: {}).{}", option,
                                 args::join(accepted), did_you_mean(option, accepted)));
  }

  void require_values(const Arguments& arguments) const;
  po::parsed_options scan(const Arguments& arguments) const;
  void take(const po::parsed_options& parsed);
};

/// Throws UsageError if an option has no value, or an empty one. Otherwise the parser would take
/// the next option for a value that was forgotten, and would drop an option whose value is empty,
/// as that of an unset shell variable is.
void CommandLine::Description::require_values(const Arguments& arguments) const {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string option = arguments[i].substr(0, arguments[i].find('='));
    if (!option.starts_with("--") || !with_value.contains(option.substr(2))) {
      continue;
    }
    const bool here = option.size() < arguments[i].size();
    if (!here && i + 1 == arguments.size()) {
      continue;  // the parser refuses this later
    }
    const std::string value = here ? arguments[i].substr(option.size() + 1) : arguments[i + 1];
    if (value.empty()) {
      throw UsageError(
          fmt::format("{} has no value (it is empty). Give one, or leave the option out.", option));
    }
    if (!here && value.starts_with("--")) {
      throw UsageError(
          fmt::format("{0} has no value ('{1}' behind it looks like an option). Give a value; "
                      "{0}={1} if that is what it is.",
                      option, value));
    }
  }
}

po::parsed_options CommandLine::Description::scan(const Arguments& arguments) const {
  require_values(arguments);
  const po::options_description options = all();
  try {
    return po::command_line_parser(arguments).options(options).style(style).run();
  } catch (const po::unknown_option& error) {
    refuse_unknown(error.get_option_name());
  } catch (const po::error& error) {
    throw UsageError(fmt::format("{}.", error.what()));
  }
}

void CommandLine::Description::take(const po::parsed_options& parsed) {
  for (const po::option& option : parsed.options) {
    if (option.string_key.empty()) {
      throw UsageError(
          fmt::format("'{}' is not an option. Options begin with --.", option.value.front()));
    }
    if (!given.insert(option.string_key).second) {
      throw UsageError(fmt::format("--{} is given twice. Give it once.", option.string_key));
    }
    takes.at(option.string_key)(option.value.empty() ? std::string() : option.value.front());
  }
  for (const auto& [one, other] : exclusions) {
    if (given.contains(one) && given.contains(other)) {
      throw UsageError(
          fmt::format("--{} and --{} contradict each other. Give one of them.", one, other));
    }
  }
  if (summation == Summation::nccl && device == Device::cpu) {
    throw UsageError(
        "--exchange nccl sums in the memory of CUDA devices (--device is cpu). Give --device cuda, "
        "or another exchange.");
  }
}

CommandLine::CommandLine(std::string_view command, std::string_view purpose, RunsOn devices)
    : description_(std::make_unique<Description>()) {
  description_->command = command;
  description_->purpose = purpose;
  section("General");
  add("help", {}, "this text", [](const std::string&) {});
  if (devices == RunsOn::cpu_or_cuda) {
    choice("device", description_->device, device_words, "where layers and tensors are");
  }
  number("timeout", description_->timeout, timeout_range, "SECONDS",
         "how long a rank waits for the others before it gives up");
  number("report-after", description_->report_after, timeout_range, "SECONDS",
         "how long before it tells who is missing");
  if (devices == RunsOn::cpu_or_cuda) {
    choice("exchange", description_->summation, summation_words,
           "who sums over the ranks: this library, MPI's all-reduce, or NCCL, which --device cuda "
           "prefers where every rank has a device of its own");
  } else {
    choice("exchange", description_->summation, cpu_summation_words,
           "who sums over the ranks: this library, or MPI's all-reduce");
  }
  path("flight-record", description_->flight_record, "DIRECTORY",
       "where each rank writes its last 1,000 exchanges if one fails");
}

CommandLine::~CommandLine() = default;

void CommandLine::section(std::string_view caption) {
  description_->sections.emplace_back(std::string(caption), help_width, meaning_width);
}

void CommandLine::add(std::string_view name, std::string_view unit, std::string meaning,
                      Take take) {
  const std::string key(name);
  po::options_description& section = description_->sections.back();
  if (unit.empty()) {
    section.add_options()(key.c_str(), meaning.c_str());
  } else {
    section.add_options()(key.c_str(), po::value<std::string>()->value_name(std::string(unit)),
                          meaning.c_str());
    description_->with_value.insert(key);
  }
  description_->names.push_back(key);
  description_->takes[key] = std::move(take);
}

void CommandLine::flag(std::string_view name, bool& value, std::string_view meaning) {
  add(name, {}, std::string(meaning), [&value](const std::string&) { value = true; });
}

void CommandLine::text(std::string_view name, std::string& value, std::string_view unit,
                       std::string_view meaning) {
  add(name, unit, value.empty() ? std::string(meaning) : args::with_default(meaning, value),
      [&value](const std::string& text) { value = text; });
}

void CommandLine::path(std::string_view name, std::filesystem::path& value, std::string_view unit,
                       std::string_view meaning) {
  add(name, unit,
      value.empty() ? std::string(meaning) : args::with_default(meaning, value.string()),
      [&value](const std::string& text) { value = text; });
}

void CommandLine::exclude(std::string_view one, std::string_view other) {
  description_->exclusions.emplace_back(one, other);
}

void CommandLine::example(std::string_view command, std::string_view effect) {
  description_->examples.emplace_back(command, effect);
}

bool CommandLine::parse(const Arguments& arguments, const World& world) {
  if (std::any_of(arguments.begin(), arguments.end(), is_help)) {
    if (world.communicator.rank() == 0) {
      print(help());
    }
    return false;
  }
  description_->take(description_->scan(arguments));
  return true;
}

bool CommandLine::given(std::string_view name) const {
  return description_->given.contains(std::string(name));
}

Device CommandLine::device() const {
  return description_->device;
}

std::string CommandLine::help() const {
  std::ostringstream out;
  out << "syncbn " << description_->command << " [option]..\n\n" << description_->purpose << "\n";
  // "General" was declared first and is shown last.
  for (std::size_t i = 1; i <= description_->sections.size(); ++i) {
    out << "\n" << description_->sections[i % description_->sections.size()];
  }
  if (!description_->examples.empty()) {
    out << "\nExamples:\n";
  }
  for (const auto& [command, effect] : description_->examples) {
    out << "  " << command << "\n      " << effect << "\n";
  }
  return out.str();
}

ExchangeOptions exchange_options_of(const Arguments& arguments) {
  ExchangeOptions options;
  const auto seconds = [&](std::string_view name) -> std::optional<std::chrono::milliseconds> {
    const auto text = value_of("--" + std::string(name), arguments);
    return text ? std::optional(milliseconds_of(args::to_number(name, *text, timeout_range)))
                : std::nullopt;
  };
  const auto timeout = seconds("timeout");
  options.deadlines = timeout ? default_deadlines(*timeout) : default_deadlines();
  options.deadlines.report = seconds("report-after").value_or(options.deadlines.report);
  if (options.deadlines.report >= options.deadlines.fail && seconds("report-after")) {
    throw UsageError(
        fmt::format("--report-after {} would never come: all ends at {} s (--timeout). Give less.",
                    *value_of("--report-after", arguments),
                    std::chrono::duration<double>(options.deadlines.fail).count()));
  }
  if (const auto text = value_of("--exchange", arguments)) {
    for (const Word<Summation>& word : summation_words) {
      if (*text == word.text) {
        options.summation = word.value;
      }
    }
  }
  const char* named = std::getenv("SYNCBN_FLIGHT_RECORD");
  options.flight_record =
      value_of("--flight-record", arguments).value_or(named == nullptr ? "" : named);
  return options;
}

}  // namespace syncbn::app
