// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "syncbn/error.hpp"
#include "syncbn/version.hpp"

#include "app/args.hpp"
#include "app/command.hpp"
#include "app/file_digest.hpp"
#include "app/hosts.hpp"
#include "app/launcher.hpp"
#include "app/misspelt_variables.hpp"
#include "app/print.hpp"
#include "app/session.hpp"
#include "app/threads.hpp"

namespace syncbn::app {
namespace {

constexpr int exit_ok = 0;
constexpr int exit_failure = 1;
constexpr int exit_usage = 2;

struct CommandEntry {
  const char* name;
  const char* summary;  ///< one line for `syncbn --help`
  std::unique_ptr<Command> (*make)();
};

constexpr CommandEntry commands[] = {
    {"train", "train a network with synchronized batch norm on an MNIST-like data set", make_train},
    {"check", "prove that these ranks give the result of one process with the whole batch",
     make_check},
    {"bench", "time a layer's phases, against copying memory, oneDNN and itself", make_bench},
    {"scale", "measure what synchronizing costs on these ranks, and on fewer of them", make_scale},
    {"study", "train small networks to see what batch norm, and synchronizing it, does",
     make_study},
    {"info", "what this build and these machines have", make_info},
    {"doctor", "look for what makes jobs fail or slow on these machines, and say what to do",
     make_doctor},
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
  for (const CommandEntry& command : commands) {
    text += fmt::format("  {:<8}{}\n", command.name, command.summary);
  }
  text +=
      "\nsyncbn COMMAND --help   the command's options\n"
      "syncbn --version        the version\n";
  return text;
}

const CommandEntry& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const CommandEntry& command : commands) {
    if (name == command.name) {
      return command;
    }
    names.emplace_back(command.name);
  }
  throw UsageError(fmt::format("there is no command '{}' (accepted: {}).{}", name,
                               args::join(names), did_you_mean(name, names)));
}

/// OthersFailed is thrown on a rank when other ranks fail, which say why.
class OthersFailed : public std::exception {};

/// A Job is what the command line asks of the program. It is read before MPI starts, and so by each
/// rank alone.
struct Job {
  Arguments arguments;
  std::unique_ptr<Command> command;  ///< null if an answer will do, or if the job is refused
  std::string answer;                ///< help or the version, which rank 0 prints
  bool writes_flight_records = false;
  ExchangeOptions exchange;    ///< the defaults if there is no command
  std::exception_ptr refusal;  ///< why the command line or the environment cannot be used
};

/// Fills in what the arguments ask for. Throws what is wrong with them.
void read_arguments(Job& job) {
  if (job.arguments.empty()) {
    return;
  }
  const std::string& first = job.arguments.front();
  if (first == "--help" || first == "-h") {
    job.answer = usage();
  } else if (first == "--version") {
    job.answer = fmt::format("syncbn {}\n", version());
  } else {
    const CommandEntry& entry = find_command(first);
    std::unique_ptr<Command> command = entry.make();
    CommandLine& line = command->command_line();
    if (!line.parse(Arguments(job.arguments.begin() + 1, job.arguments.end()))) {
      job.answer = line.help();
      return;
    }
    job.exchange = line.exchange();
    job.writes_flight_records = entry.make != make_info && !job.exchange.flight_record.empty();
    job.command = std::move(command);
  }
}

Job read_job(Arguments arguments) {
  Job job;
  job.arguments = std::move(arguments);
  try {
    read_arguments(job);
  } catch (const std::exception&) {  // the user is told when all ranks are there
    job.refusal = std::current_exception();
  }
  return job;
}

/// Returns the failure of an exchange before the command begins, to which some ranks did not come.
CommError missing_ranks(const Session& session, const Job& job, std::string_view problem) {
  const std::string advice =
      job.command ? "\n  " + job.command->advice_on_silence(session.library()) : "";
  return CommError(fmt::format("{}: {}{}", problem, session.silence(), advice));
}

/// Collective. Throws UsageError if the ranks have different arguments. Call it before anything
/// that a rank might refuse because of its arguments, as it would be alone in doing so.
void require_same_arguments(const Session& session, const Job& job) {
  std::string joined;
  for (const std::string& argument : job.arguments) {
    joined += argument + '\n';
  }
  const std::optional<bool> same =
      session.all_same(std::hash<std::string>()(joined), job.exchange.deadlines.fail);
  if (!same) {
    throw missing_ranks(session, job, "not all ranks started in time");
  }
  if (!*same) {
    throw UsageError("the ranks were started with different arguments. Give all the same.");
  }
}

/// Collective. Throws on all ranks if one refuses its job: the ranks' environments may differ where
/// their arguments do not.
void require_accepted(const Session& session, const Job& job) {
  const std::optional<bool> same =
      session.all_same(job.refusal ? 1 : 0, job.exchange.deadlines.fail);
  if (job.refusal) {
    std::rethrow_exception(job.refusal);
  }
  if (!same) {
    throw missing_ranks(session, job, "not all ranks started in time");
  }
  if (!*same) {
    throw OthersFailed();
  }
}

std::string program_of(const Arguments& arguments) {
  for (const CommandEntry& command : commands) {
    if (!arguments.empty() && arguments.front() == command.name) {
      return fmt::format("syncbn {}", command.name);
    }
  }
  return "syncbn";
}

/// Collective. Warns if the ranks run different builds of this program. It is no error, as somebody
/// may install a build for each kind of processor, of sources that are the same.
void warn_of_different_builds(const Session& session, const Job& job) {
  if (session.size() == 1) {
    return;
  }
  const std::size_t build = std::hash<std::string>()(file_digest(own_program));
  const std::optional<bool> same = session.all_same(build, job.exchange.deadlines.fail);
  if (!same) {
    throw missing_ranks(session, job, "not all ranks came to compare their builds");
  }
  if (!*same && session.rank() == 0) {
    print_error(fmt::format(
        "{}: the ranks run different builds of syncbn, or one cannot read its own file. Builds of "
        "different sources may not understand each other. `syncbn doctor`, started in the same "
        "way, tells which rank has which; install one build on all hosts.\n",
        program_of(job.arguments)));
  }
}

int run(const Session& session, const Job& job) {
  require_same_arguments(session, job);
  require_accepted(session, job);
  if (job.arguments.empty()) {
    if (session.rank() == 0) {
      print_error(usage());
    }
    return exit_usage;
  }
  if (!job.command) {
    if (session.rank() == 0) {
      print(job.answer);
    }
    return exit_ok;
  }
  set_report_handler([program = program_of(job.arguments)](std::string_view line) {
    print_error(fmt::format("{}: {}\n", program, line));
  });
  if (job.writes_flight_records) {
    set_flight_record_directory(job.exchange.flight_record);
  }
  if (!job.command->runs_among_strangers()) {
    require_known_processes(session.size(), session.library(), job.command->command_line().text());
    warn_of_different_builds(session, job);
  }
  if (session.rank() == 0) {
    for (const std::string& warning : misspelt_variables(environ)) {
      print_error(fmt::format("{}: {}\n", program_of(job.arguments), warning));
    }
  }
  const World world = session.world(job.exchange);
  set_thread_count(default_thread_count(ranks_on_this_host(world.communicator),
                                        ranks_on_these_processors(world.communicator)));
  return job.command->run(world);
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

int run_guarded(const Session& session, const Job& job) {
  try {
    const int code = run(session, job);
    if (!output_is_written()) {
      throw FileError("standard output cannot be written. Is it closed, or the disk full?");
    }
    return code;
  } catch (const UsageError& error) {
    return report_failure(session, job.arguments, {error.what(), exit_usage});
  } catch (const CommError& error) {
    return report_failure(session, job.arguments, {error.what(), exit_failure, true});
  } catch (const OthersFailed&) {
    return report_failure(session, job.arguments, {});
  } catch (const std::bad_alloc&) {
    return report_failure(session, job.arguments,
                          {"memory ran out. Try smaller batches or shapes, fewer ranks on this "
                           "host, or a higher limit (ulimit -v, the container's)."});
  } catch (const std::exception& error) {
    return report_failure(session, job.arguments, {error.what()});
  }
}

/// Returns whether the launcher of another MPI has started this, and says so: in its environment
/// MPI_Init may end the process. Some commands tell more of it later. Of a launcher whose processes
/// may not find each other it only warns.
bool is_refused_before_mpi(const Job& job) {
  if (!job.command) {
    return false;
  }
  const auto environment = [](const char* name) { return std::getenv(name); };
  const std::string command = job.command->command_line().text();
  const auto print = [&](const Strangers& of) {
    print_error(fmt::format("{}: {}. {}\n", program_of(job.arguments), of.problem, of.advice));
  };
  const auto suspects = find_ranks_without_pmi(environment, Session::library(), command);
  if (suspects && suspects->first) {
    print(*suspects);
  }
  if (job.command->runs_among_strangers()) {
    return false;
  }
  const auto strangers = find_strangers_before_mpi(environment, Session::library(), command);
  if (strangers) {
    print(*strangers);
  }
  return strangers.has_value();
}

}  // namespace
}  // namespace syncbn::app

int main(int argc, char** argv) {
  syncbn::app::occupy_standard_streams();
  const syncbn::app::Job job = syncbn::app::read_job({argv + 1, argv + argc});
  if (syncbn::app::is_refused_before_mpi(job)) {
    return syncbn::app::exit_failure;
  }
  const syncbn::app::Session session(job.exchange.deadlines);
  return syncbn::app::run_guarded(session, job);
}
