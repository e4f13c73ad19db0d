// SPDX-License-Identifier: Apache-2.0
#include "app/scale/summary.hpp"

#include <optional>
#include <vector>

#include <fmt/format.h>

#include "app/table.hpp"

namespace syncbn::app::scale {
namespace {

constexpr int compared_length = 514;  ///< [doubles] of a forward of 256 channels

double seconds_of(const Json& cell, const char* phase) {
  return cell[phase]["median"];
}

/// Returns what all layers of a group take with exchange over what they take without.
std::optional<double> price(const Json& report, std::size_t group) {
  double with = 0;
  double without = 0;
  for (const Json& cell : report["cells"]) {
    if (cell["kind"] == "layer" && cell["group"] == group) {
      const double layers = cell["layers"];
      with += layers * (seconds_of(cell, "sync_forward") + seconds_of(cell, "sync_backward"));
      without += layers * (seconds_of(cell, "local_forward") + seconds_of(cell, "local_backward"));
    }
  }
  return without > 0 ? std::optional(with / without) : std::nullopt;
}

/// Returns the median time of the exchange that is compared, in microseconds; "" if there is none.
std::string exchange_time(const Json& report, std::size_t group, bool by_mpi) {
  for (const Json& cell : report["cells"]) {
    if (cell["kind"] == "exchange" && cell["group"] == group &&
        cell["doubles"] == compared_length && (cell["by"] == "MPI_Allreduce") == by_mpi) {
      return fmt::format("{:.2f}", 1e6 * seconds_of(cell, "time"));
    }
  }
  return "";
}

std::string step_ratio(const Json& report, std::size_t group) {
  for (const Json& cell : report["cells"]) {
    if (cell["kind"] == "step" && cell["group"] == group && cell["scaling"] == "strong" &&
        cell.contains("price")) {
      return fmt::format("{:.3f}", cell["price"]["value"].get<double>());
    }
  }
  return "";
}

}  // namespace

std::string introduction(std::size_t missing, std::size_t all, const Json& machine,
                         const std::filesystem::path& output) {
  const std::size_t hosts = machine["hosts"].size();
  std::string text = fmt::format("syncbn scale: {} rank{} on {} host{}, {} cell{}",
                                 machine["ranks"].get<int>(), machine["ranks"] == 1 ? "" : "s",
                                 hosts, hosts == 1 ? "" : "s", all, all == 1 ? "" : "s");
  if (missing < all) {
    text += fmt::format(", {} of them measured already in {}", all - missing, output.string());
  }
  text += "\n";
  if (machine["oversubscribed"]) {
    text +=
        "There are more ranks than processors: times tell how the system shares these, not what "
        "the exchange takes.\n";
  }
  for (const Json& host : machine["hosts"]) {
    const double load = host["load"];
    if (load > 0.5 * host["processors"].get<double>()) {
      text += fmt::format(
          "Something else is running on {} (its load is {:.1f} for {} processors): times, and how "
          "they compare, tell of that, too.\n",
          host["name"].get<std::string>(), load, host["processors"].get<int>());
    }
  }
  return text;
}

std::string summary(const Json& report, const std::filesystem::path& output) {
  Table table({{"ranks"},
               {"hosts"},
               {"layers, sync / local"},
               {"step, sync / local"},
               {"exchange, us"},
               {"MPI_Allreduce, us"}});
  for (std::size_t group = 0; group < report["groups"].size(); ++group) {
    const Json& plan = report["groups"][group];
    const std::optional<double> paid = price(report, group);
    table.add({fmt::format("{}", plan["ranks"].get<int>()),
               fmt::format("{}", plan["hosts"].get<int>()),
               paid ? fmt::format("{:.3f}", *paid) : "", step_ratio(report, group),
               exchange_time(report, group, false), exchange_time(report, group, true)});
  }
  std::size_t wide = 0;
  for (const Json& cell : report["cells"]) {
    wide += cell["enough"] ? 0 : 1;
  }
  return fmt::format(
      "\n{}\nexchange: of {} doubles, from the last rank's arrival to the last one's exit; all "
      "are medians.\n{} of {} measurements ended by their time, with wider intervals than {:.0f} "
      "%.\n"
      "Measured in {:.0f} s. To draw it: python -m syncbn.report {}\n",
      table.text(), compared_length, wide, report["cells"].size(),
      100 * report["method"]["wanted"].get<double>(), report["seconds"].get<double>(),
      output.string());
}

}  // namespace syncbn::app::scale
