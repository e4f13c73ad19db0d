// SPDX-License-Identifier: Apache-2.0
#include "app/check/report.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "syncbn/version.hpp"

#include "app/check/tolerance.hpp"
#include "app/table.hpp"

namespace syncbn::app::check {
namespace {

/// The error of local batch norm must exceed this multiple of the tolerance, far more than rounding
/// could explain.
constexpr double control_margin = 100;

constexpr const char* error_legend =
    "\n"
    "error      worst over all cases and ranks against batch norm in extended precision, of the\n"
    "           case that comes nearest to its tolerance; relative to the sum of the magnitudes\n"
    "           of the terms that the quantity is made of\n";
constexpr const char* tolerance_legend =
    "tolerance  derived: y 6c + e, dx 7c + e (c, e: unit round-off of the arithmetic and of the\n"
    "           stored type); parameter gradients and running statistics 3 sqrt(n) 2^-53,\n"
    "           16-bit types 12c more; and what the statistics may be off, 1e-9 (f64: 1e-13,\n"
    "           16-bit types: 5e-5)\n";
constexpr const char* exact_legend =
    "           exact: 2^-25 (f64: 1e-14) instead and no 12c, and for each term of a gradient\n"
    "           sum half a unit, 2^-34 (f64: 2^-84) of the channel's largest\n";
constexpr const char* cases_legend =
    "from y     trained in place, the input recovered from the output: what y is off, too\n"
    "cases      1 to 2048 channels; even, uneven and empty shards; relu, leaky relu, residual;\n"
    "           weights and padding; y over x and dx over dy; whole and in blocks of channels;\n"
    "           means as far from 0 as the type can still tell a standard deviation\n";
constexpr const char* device_tolerance_legend =
    "tolerance  derived: y 6c + e, dx 7c + e (c, e: unit round-off of the arithmetic and of the\n"
    "           stored type); parameter gradients and running statistics 3 sqrt(n) 2^-53 and\n"
    "           11c, as terms are of float (f64: 3 2^-53), in statistics (k + sqrt(1 + k^2))^2\n"
    "           times as much where the mean is k deviations off what was foretold; and what the\n"
    "           statistics may be off\n";
constexpr const char* device_cases_legend =
    "from y     trained in place, the input recovered from the output: what y is off, too\n"
    "cases      1 to 2048 channels; even, uneven and empty shards; relu, leaky relu, residual;\n"
    "           weights and padding; y over x and dx over dy; means as far from 0 as the type can\n"
    "           still tell a standard deviation; blocks of channels are left out, as layers on\n"
    "           devices have none\n";

std::size_t count_misses(const Outcome& outcome) {
  std::size_t misses = 0;
  for (const DType dtype : outcome.selection.dtypes) {
    for (std::size_t q = 0; q < quantities; ++q) {
      misses += outcome.findings.of(dtype, static_cast<Quantity>(q)).good() ? 0 : 1;
    }
  }
  return misses;
}

bool control_holds(const Outcome& outcome) {
  return !outcome.control || outcome.control->used > control_margin;
}

bool bits_hold(const Outcome& outcome) {
  return !outcome.exact_bits || outcome.exact_bits->different == 0;
}

/// Returns whether the default mode does not give one process's bits too; if it did, equal bits of
/// the exact mode would prove nothing.
bool bits_control_holds(const Outcome& outcome) {
  return !outcome.default_bits || outcome.default_bits->different > 0;
}

std::string cell(const Worst& worst) {
  if (!worst.compared()) {
    return "-";
  }
  const std::string error = worst.error > 0 ? fmt::format("{:.1e}", worst.error) : "0";
  const std::string text =
      worst.tolerance > 0 ? fmt::format("{} / {:.1e}", error, worst.tolerance) : error + " / exact";
  return worst.good() ? text : "! " + text;
}

std::string worst_table(const Outcome& outcome) {
  std::vector<Column> columns = {{"error / tolerance", Align::left}};
  for (const DType dtype : outcome.selection.dtypes) {
    columns.push_back({std::string(to_string(dtype))});
  }
  Table table(columns);
  for (std::size_t q = 0; q < quantities; ++q) {
    std::vector<std::string> row = {std::string(quantity_names[q])};
    for (const DType dtype : outcome.selection.dtypes) {
      row.push_back(cell(outcome.findings.of(dtype, static_cast<Quantity>(q))));
    }
    table.add(row);
  }
  std::vector<std::string> limits = {"|mean|/std up to"};
  for (const DType dtype : outcome.selection.dtypes) {
    limits.push_back(fmt::format("{:.0e}", largest_mean_over_std(dtype)));
  }
  table.add_rule();
  table.add(limits);
  return table.text();
}

std::string misses_text(const Outcome& outcome) {
  std::string text;
  for (const DType dtype : outcome.selection.dtypes) {
    for (std::size_t q = 0; q < quantities; ++q) {
      const Worst& worst = outcome.findings.of(dtype, static_cast<Quantity>(q));
      if (!worst.compared()) {
        text += fmt::format("  MISS {}: no case of {} compared it\n", quantity_names[q],
                            to_string(dtype));
      } else if (!worst.good()) {
        const Case& one = outcome.cases[static_cast<std::size_t>(worst.case_index)];
        text += fmt::format("  MISS {}: {} (off by {:.1e}, tolerance {:.1e})\n", quantity_names[q],
                            describe(one, outcome.ranks), worst.error, worst.tolerance);
      }
    }
  }
  return text;
}

std::string control_text(const Outcome& outcome) {
  if (!outcome.control) {
    return "not run: a single rank's local batch norm is the whole batch's. It needs two or more.";
  }
  return fmt::format("local batch norm is off by {:.1e}, {:.0e} times the tolerance{}",
                     outcome.control->error, outcome.control->used,
                     control_holds(outcome) ? ", and is told apart"
                                            : ": MISS, this check could not tell it apart");
}

std::string bits_text(const Outcome& outcome) {
  if (!outcome.exact_bits) {
    return outcome.selection.exact
               ? "exact      not run: a single rank is one process. It needs two or more.\n"
               : "";
  }
  const BitComparison& exact = *outcome.exact_bits;
  const BitComparison& plain = *outcome.default_bits;
  const std::string differences =
      exact.different == 0
          ? "all of them the bits of one process"
          : fmt::format(
                "MISS: {:.0f} have other bits than in one process, first in {}", exact.different,
                describe(outcome.cases[static_cast<std::size_t>(exact.case_index)], outcome.ranks));
  return fmt::format(
      "exact      {:.0f} numbers of {} layers, each with the batch dealt out in {} ways: {}\n"
      "           in the default mode {:.0f} of them, in {:.0f} of the layers, have others{}\n",
      exact.compared, outcome.cases.size(), shardings, differences, plain.different,
      plain.cases_different,
      bits_control_holds(outcome) ? "" : ": MISS, this check could not tell the modes apart");
}

std::size_t count_replayed(const Outcome& outcome) {
  return static_cast<std::size_t>(std::ranges::count_if(outcome.cases, &Case::replayed));
}

std::string graphs_text(const Outcome& outcome) {
  if (!outcome.device) {
    return "";
  }
  if (!outcome.selection.graphs) {
    return "graphs     not run: a graph cannot hold sums that are staged through the host. Take\n"
           "           --exchange nccl.\n";
  }
  return fmt::format(
      "graphs     {} of the layers trained for a third step; their second and third are replays\n"
      "           of a CUDA graph\n",
      count_replayed(outcome));
}

std::string verdict(const Outcome& outcome) {
  if (passed(outcome) && outcome.exact_bits) {
    return fmt::format(
        "PASS: {} ranks give what one process with the whole batch gives, to the bit.\n",
        outcome.ranks);
  }
  if (passed(outcome)) {
    return outcome.ranks == 1
               ? "PASS: this process gives batch norm of the whole batch.\n"
               : fmt::format("PASS: {} ranks give what one process with the whole batch gives.\n",
                             outcome.ranks);
  }
  return fmt::format(
      "FAIL: {} of {} quantities are off{}{}{}.\n", count_misses(outcome),
      quantities * outcome.selection.dtypes.size(),
      outcome.same_bits ? "" : ", the ranks' results differ",
      bits_hold(outcome) ? "" : ", bits depend on the ranks",
      control_holds(outcome) && bits_control_holds(outcome) ? "" : ", the control is blind");
}

std::string heading(const Outcome& outcome) {
  const std::string text =
      fmt::format("syncbn check: {} rank{}, {} layers trained for two steps in {:.1f} s, seed {}\n",
                  outcome.ranks, outcome.ranks == 1 ? "" : "s", outcome.cases.size(),
                  outcome.seconds, outcome.seed);
  return outcome.device
             ? fmt::format("{}on {}, {}\n\n", text, outcome.device->name, outcome.transport)
             : text + "\n";
}

std::string legend(const Outcome& outcome) {
  const bool exact = outcome.selection.exact;
  return std::string(error_legend) +
         (outcome.device && !exact ? device_tolerance_legend : tolerance_legend) +
         (exact ? exact_legend : "") + (outcome.device ? device_cases_legend : cases_legend);
}

nlohmann::ordered_json to_json(const Outcome& outcome, DType dtype, Quantity quantity) {
  const Worst& worst = outcome.findings.of(dtype, quantity);
  const Case& one = outcome.cases[static_cast<std::size_t>(worst.case_index)];
  return {
      {"dtype", to_string(dtype)}, {"quantity", quantity_names[static_cast<std::size_t>(quantity)]},
      {"error", worst.error},      {"tolerance", worst.tolerance},
      {"pass", worst.good()},      {"case", worst.compared() ? describe(one, outcome.ranks) : ""}};
}

}  // namespace

bool passed(const Outcome& outcome) {
  return count_misses(outcome) == 0 && outcome.same_bits && control_holds(outcome) &&
         bits_hold(outcome) && bits_control_holds(outcome);
}

std::string report_text(const Outcome& outcome) {
  std::string text = heading(outcome) + worst_table(outcome) + legend(outcome);
  text += fmt::format("same bits  {}\n",
                      outcome.same_bits ? "running statistics and parameter gradients on every "
                                          "rank: yes"
                                        : "MISS: the ranks' results differ");
  text += graphs_text(outcome) + bits_text(outcome);
  text += fmt::format("control    {}\n\n", control_text(outcome));
  return text + misses_text(outcome) + verdict(outcome);
}

std::string report_json(const Outcome& outcome) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const DType dtype : outcome.selection.dtypes) {
    for (std::size_t q = 0; q < quantities; ++q) {
      results.push_back(to_json(outcome, dtype, static_cast<Quantity>(q)));
    }
  }
  nlohmann::ordered_json control = nullptr;
  if (outcome.control) {
    control = {{"error", outcome.control->error},
               {"tolerance", outcome.control->tolerance},
               {"pass", control_holds(outcome)}};
  }
  nlohmann::ordered_json exact = nullptr;
  if (outcome.exact_bits) {
    exact = {{"compared", outcome.exact_bits->compared},
             {"different", outcome.exact_bits->different},
             {"different_by_default", outcome.default_bits->different},
             {"pass", bits_hold(outcome) && bits_control_holds(outcome)}};
  }
  const nlohmann::ordered_json report = {{"version", version()},
                                         {"ranks", outcome.ranks},
                                         {"transport", outcome.transport},
                                         {"device", app::to_json(outcome.device)},
                                         {"seed", outcome.seed},
                                         {"cases", outcome.cases.size()},
                                         {"replayed", count_replayed(outcome)},
                                         {"seconds", outcome.seconds},
                                         {"pass", passed(outcome)},
                                         {"same_bits", outcome.same_bits},
                                         {"local_control", control},
                                         {"exact", exact},
                                         {"results", results}};
  return report.dump(2) + "\n";
}

}  // namespace syncbn::app::check
