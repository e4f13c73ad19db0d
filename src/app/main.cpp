// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <string>
#include <thread>

#include <fmt/format.h>

#include "syncbn/error.hpp"
#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/hosts.hpp"
#include "app/print.hpp"
#include "app/session.hpp"
#include "app/threads.hpp"

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

/// A rank that fails waits this long for the others to fail too: ranks that fail together do so at
/// nearly the same time.
constexpr auto failing_patience = std::chrono::seconds(2);
/// Ranks that fail one by one leave each other this time to say why.
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
    print(text);
  }
  return exit_ok;
}

/// OthersFailed is thrown on a rank when other ranks fail, which say why.
class OthersFailed : public std::exception {};

/// Returns the timeout that the arguments give, or the default if they cannot be understood.
std::chrono::milliseconds patience_of(const Arguments& arguments) {
  try {
    return exchange_options_of(arguments).deadlines.fail;
  } catch (const std::exception&) {
    return default_timeout;
  }
}

/// Collective. Throws UsageError if the ranks have different arguments. Call it before anything
/// that a rank might refuse because of its arguments, as it would be alone in doing so.
void require_same_arguments(const Session& session, const Arguments& arguments) {
  std::string joined;
  for (const std::string& argument : arguments) {
    joined += argument + '\n';
  }
  const std::optional<bool> same =
      session.all_same(std::hash<std::string>()(joined), patience_of(arguments));
  if (!same) {
    throw CommError("not all ranks started in time: " + session.silence());
  }
  if (!*same) {
    throw UsageError("the ranks were started with different arguments. Give all the same.");
  }
}

/// Collective. Reads the exchange options on every rank, and throws on all if one cannot: the
/// ranks' environments may differ where their arguments do not.
ExchangeOptions agreed_exchange_options(const Session& session, const Arguments& arguments) {
  ExchangeOptions options;
  std::exception_ptr problem;
  try {
    options = exchange_options_of(arguments);
  } catch (const std::exception&) {
    problem = std::current_exception();
  }
  const std::optional<bool> same =
      session.all_same(problem ? 1 : 0, problem ? default_timeout : options.deadlines.fail);
  if (problem) {
    std::rethrow_exception(problem);
  }
  if (!same) {
    throw CommError("not all ranks started in time.");
  }
  if (!*same) {
    throw OthersFailed();
  }
  return options;
}

std::string program_of(const Arguments& arguments) {
  for (const Command& command : commands) {
    if (!arguments.empty() && arguments.front() == command.name) {
      return fmt::format("syncbn {}", command.name);
    }
  }
  return "syncbn";
}

int run(const Session& session, const Arguments& arguments) {
  require_same_arguments(session, arguments);
  if (arguments.empty()) {
    if (session.rank() == 0) {
      print_error(usage());
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
  const ExchangeOptions exchange = agreed_exchange_options(session, rest);
  set_report_handler([program = program_of(arguments)](std::string_view line) {
    print_error(fmt::format("{}: {}\n", program, line));
  });
  if (!exchange.flight_record.empty() && command.run != run_info) {
    set_flight_record_directory(exchange.flight_record);
  }
  const World world = session.world(exchange);
  set_thread_count(default_thread_count(ranks_on_this_host(world.communicator)));
  return command.run(rest, world);
}

/// A Failure says why a rank ends without having done its work.
struct Failure {
  std::string message;  ///< "" if other ranks tell the reason
  int code = exit_failure;
  bool exchange_failed = false;  ///< then MPI may still hold a request
};

/// Prints the failure and ends this rank. If all ranks fail in the same way, the message is printed
/// once and the program ends in order. If a rank fails alone, the others wait for it in an
/// exchange, so it aborts them too; so does every rank after a failed exchange.
int report_failure(const Session& session, const Arguments& arguments, const Failure& failure) {
  const std::optional<bool> alike =
      session.all_same(std::hash<std::string>()(failure.message), failing_patience);
  const bool printed_once = alike.value_or(false);
  const bool mine_to_print = !failure.message.empty() && (session.rank() == 0 || !printed_once);
  if (mine_to_print) {
    // The library's own messages about exchanges begin with the rank.
    const bool names_rank =
        printed_once || session.size() == 1 || failure.message.starts_with("rank ");
    const std::string program = program_of(arguments);
    print_error(
        fmt::format("{}: {}{}\n{}", program,
                    names_rank ? "" : fmt::format("rank {}: ", session.rank()), failure.message,
                    failure.code == exit_usage ? fmt::format("Try '{} --help'.\n", program) : ""));
  }
  if (alike && !failure.exchange_failed) {
    return failure.code;
  }
  // The first rank to abort would cut the others' messages short.
  if (!printed_once) {
    std::this_thread::sleep_for(time_to_speak);
  } else if (!mine_to_print) {
    std::this_thread::sleep_for(failing_patience);
  }
  session.abort(failure.code);
}

int run_guarded(const Session& session, const Arguments& arguments) {
  try {
    const int code = run(session, arguments);
    if (!output_is_written()) {
      throw FileError("standard output cannot be written. Is it closed, or the disk full?");
    }
    return code;
  } catch (const UsageError& error) {
    return report_failure(session, arguments, {error.what(), exit_usage});
  } catch (const CommError& error) {
    return report_failure(session, arguments, {error.what(), exit_failure, true});
  } catch (const OthersFailed&) {
    return report_failure(session, arguments, {});
  } catch (const std::bad_alloc&) {
    return report_failure(session, arguments,
                          {"memory ran out. Try smaller batches or shapes, fewer ranks on this "
                           "host, or a higher limit (ulimit -v, the container's)."});
  } catch (const std::exception& error) {
    return report_failure(session, arguments, {error.what()});
  }
}

}  // namespace
}  // namespace syncbn::app

int main(int argc, char** argv) {
  syncbn::app::occupy_standard_streams();
  const syncbn::app::Session session(argc, argv);
  return syncbn::app::run_guarded(session, syncbn::app::Arguments(argv + 1, argv + argc));
}
