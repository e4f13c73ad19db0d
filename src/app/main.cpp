// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "syncbn/error.hpp"
#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/session.hpp"

namespace syncbn::app {
namespace {

constexpr int exit_ok = 0;
constexpr int exit_failure = 1;
constexpr int exit_usage = 2;

constexpr Command commands[] = {
    {"train", "train a network with synchronized batch norm on an MNIST-like data set", run_train},
    {"check", "prove that these ranks give the result of one process with the whole batch",
     run_check},
    {"bench", "time a layer's phases, against copying memory, oneDNN and itself", run_bench},
    {"info", "what this build and these machines have", run_info},
};

// Ranks that fail together do so at nearly the same time; one that fails alone finds no company.
constexpr auto failing_patience = std::chrono::seconds(2);
/// What ranks that fail one by one leave each other to say why.
constexpr auto time_to_speak = std::chrono::milliseconds(500);

std::string usage() {
  std::string text = fmt::format(
      "syncbn {}: batch normalization synchronized over the ranks of an MPI job\n\n"
      "  syncbn COMMAND [option]..\n"
      "  mpirun -n RANKS syncbn COMMAND [option]..\n\nCommands:\n",
      version());
  for (const Command& command : commands) {
    text += fmt::format("  {:<7}{}\n", command.name, command.summary);
  }
  text +=
      "\nsyncbn COMMAND --help   the command's options\n"
      "syncbn --version        the version\n";
  return text;
}

const Command& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const Command& command : commands) {
    if (name == command.name) {
      return command;
    }
    names.emplace_back(command.name);
  }
  throw UsageError(fmt::format("there is no command '{}' (accepted: {}).{}", name,
                               args::join(names), did_you_mean(name, names)));
}

int print_on_rank_0(const Session& session, const std::string& text) {
  if (session.rank() == 0) {
    std::fputs(text.c_str(), stdout);
  }
  return exit_ok;
}

void require_same_arguments(const Session& session, const Arguments& arguments) {
  std::string joined;
  for (const std::string& argument : arguments) {
    joined += argument + '\n';
  }
  const std::optional<bool> same = session.all_same(std::hash<std::string>()(joined),
                                                    exchange_options_of(arguments).deadlines.fail);
  if (!same) {
    throw CommError("not all ranks started in time.");
  }
  if (!*same) {
    throw UsageError("the ranks were started with different arguments. Give all the same.");
  }
}

std::string program_of(const Arguments& arguments) {
  return arguments.empty() || arguments.front().starts_with('-') ? "syncbn"
                                                                 : "syncbn " + arguments.front();
}

/// Better known to be impossible now than when there is something to write.
void keep_flight_records_in(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    throw UsageError(
        fmt::format("{} cannot be made: {}. Give --flight-record, or SYNCBN_FLIGHT_RECORD in the "
                    "environment, another directory.",
                    directory.string(), error.message()));
  }
  set_flight_record_directory(directory);
}

int run(const Session& session, const Arguments& arguments) {
  require_same_arguments(session, arguments);
  if (arguments.empty()) {
    if (session.rank() == 0) {
      std::fputs(usage().c_str(), stderr);
    }
    return exit_usage;
  }
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h") {
    return print_on_rank_0(session, usage());
  }
  if (first == "--version") {
    return print_on_rank_0(session, fmt::format("syncbn {}\n", version()));
  }
  const Command& command = find_command(first);
  const Arguments rest(arguments.begin() + 1, arguments.end());
  const ExchangeOptions exchange = exchange_options_of(rest);
  set_report_handler([program = program_of(arguments)](std::string_view line) {
    fmt::print(stderr, "{}: {}\n", program, line);
    std::fflush(stderr);
  });
  if (!exchange.flight_record.empty() && command.run != run_info) {
    keep_flight_records_in(exchange.flight_record);
  }
  const World world = session.world(exchange);
  return command.run(rest, world);
}

int report_usage(const Session& session, const Arguments& arguments, const std::string& message) {
  if (session.rank() == 0) {
    std::string program = program_of(arguments);
    for (const Command& command : commands) {
      if (program == std::string("syncbn ") + command.name) {
        fmt::print(stderr, "{}: {}\nTry '{} --help'.\n", program, message, program);
        return exit_usage;
      }
    }
    fmt::print(stderr, "syncbn: {}\nTry 'syncbn --help'.\n", message);
  }
  return exit_usage;
}

/// What all ranks hit together is printed once, and the program ends in order. A rank that fails
/// alone leaves the others in an exchange: it takes them along. So does a failed exchange, whose
/// request MPI may still hold.
int report_failure(const Session& session, const Arguments& arguments, const std::string& message,
                   bool exchange_failed) {
  const std::optional<bool> alike =
      session.all_same(std::hash<std::string>()(message), failing_patience);
  const bool printed_once = alike.value_or(false);
  const bool mine_to_print = session.rank() == 0 || !printed_once;
  if (mine_to_print) {
    // The library's own messages about exchanges begin with the rank.
    const bool names_rank = printed_once || session.size() == 1 || message.starts_with("rank ");
    fmt::print(stderr, "{}: {}{}\n", program_of(arguments),
               names_rank ? "" : fmt::format("rank {}: ", session.rank()), message);
    std::fflush(stderr);
  }
  if (alike && !exchange_failed) {
    return exit_failure;
  }
  // The first rank to abort would cut the others' messages short.
  if (!mine_to_print) {
    std::this_thread::sleep_for(failing_patience);
  } else if (!alike) {
    std::this_thread::sleep_for(time_to_speak);
  }
  session.abort(exit_failure);
}

int run_guarded(const Session& session, const Arguments& arguments) {
  try {
    const int code = run(session, arguments);
    if (std::fflush(stdout) != 0) {
      throw FileError("standard output cannot be written. Is the disk full?");
    }
    return code;
  } catch (const UsageError& error) {
    return report_usage(session, arguments, error.what());
  } catch (const CommError& error) {
    return report_failure(session, arguments, error.what(), true);
  } catch (const std::exception& error) {
    return report_failure(session, arguments, error.what(), false);
  }
}

}  // namespace
}  // namespace syncbn::app

int main(int argc, char** argv) {
  const syncbn::app::Session session(argc, argv);
  return syncbn::app::run_guarded(session, syncbn::app::Arguments(argv + 1, argv + argc));
}
