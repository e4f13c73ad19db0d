// SPDX-License-Identifier: Apache-2.0
#include "app/args.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include <boost/program_options.hpp>
#include <fmt/format.h>

#include "app/shell_word.hpp"

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
constexpr Word<DeviceKind> device_words[] = {
    {"cpu", DeviceKind::cpu}, {"cuda", DeviceKind::cuda}, {"emulated", DeviceKind::emulated}};

double seconds_of(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

std::chrono::milliseconds milliseconds_of(double seconds) {
  return std::chrono::milliseconds(std::max<std::int64_t>(1, std::llround(seconds * 1000)));
}

bool is_help(const std::string& argument) {
  return argument == "--help" || argument == "-h";
}

}  // namespace

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
  Arguments typed;  ///< as parsed
  double timeout = seconds_of(default_timeout);
  double report_after = seconds_of(default_report);
  Summation summation = Summation::builtin;
  DeviceKind device = DeviceKind::cpu;
  std::filesystem::path flight_record;
  ExchangeOptions exchange;  ///< what the General options come to

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
  ExchangeOptions exchange_options() const;
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
  if (summation == Summation::nccl && device == DeviceKind::cpu) {
    throw UsageError(
        "--exchange nccl sums in the memory of CUDA devices (--device is cpu). Give --device cuda, "
        "or another exchange.");
  }
}

/// Returns how ranks exchange, by the options that have been taken and the environment.
ExchangeOptions CommandLine::Description::exchange_options() const {
  ExchangeOptions options;
  options.deadlines =
      given.contains("timeout") ? default_deadlines(milliseconds_of(timeout)) : default_deadlines();
  if (given.contains("report-after")) {
    options.deadlines.report = milliseconds_of(report_after);
    if (options.deadlines.report >= options.deadlines.fail) {
      throw UsageError(fmt::format(
          "--report-after {} would never come: all ends at {} s (--timeout). Give less.",
          report_after, seconds_of(options.deadlines.fail)));
    }
  }
  if (given.contains("exchange")) {
    options.summation = summation;
  }
  const char* named = std::getenv("SYNCBN_FLIGHT_RECORD");
  options.flight_record =
      given.contains("flight-record") || named == nullptr ? flight_record : named;
  return options;
}

CommandLine::CommandLine(std::string_view command, std::string_view purpose, RunsOn devices)
    : description_(std::make_unique<Description>()) {
  description_->command = command;
  description_->purpose = purpose;
  section("General");
  add("help", {}, "this text", [](const std::string&) {});
  if (devices == RunsOn::cpu_or_cuda) {
    choice("device", description_->device, device_words,
           "where layers and tensors are; emulated is a CUDA device that the host emulates, in "
           "builds with -DSYNCBN_CUDA=EMULATED");
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

bool CommandLine::parse(const Arguments& arguments) {
  if (std::any_of(arguments.begin(), arguments.end(), is_help)) {
    return false;
  }
  description_->take(description_->scan(arguments));
  description_->typed = arguments;
  description_->exchange = description_->exchange_options();
  return true;
}

bool CommandLine::given(std::string_view name) const {
  return description_->given.contains(std::string(name));
}

DeviceKind CommandLine::device() const {
  return description_->device;
}

std::string CommandLine::text() const {
  std::string text = "syncbn " + description_->command;
  for (const std::string& argument : description_->typed) {
    text += " " + shell_word(argument);
  }
  return text;
}

const ExchangeOptions& CommandLine::exchange() const {
  return description_->exchange;
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

}  // namespace syncbn::app
