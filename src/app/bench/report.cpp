// SPDX-License-Identifier: Apache-2.0
#include "app/bench/report.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "syncbn/backend.hpp"

#include "app/bench/place.hpp"
#include "app/table.hpp"

namespace syncbn::app::bench {
namespace {

constexpr Phase own_phases[] = {Phase::sums, Phase::exchange, Phase::normalize, Phase::forward,
                                Phase::backward};

struct RivalColumns {
  Rival rival;
  const char* name;
  Phase forward;
  Phase backward;
};
constexpr RivalColumns rivals[] = {
    {Rival::onednn, "oneDNN", Phase::onednn_forward, Phase::onednn_backward},
    {Rival::local, "local", Phase::local_forward, Phase::local_backward},
    {Rival::exact, "exact", Phase::exact_forward, Phase::exact_backward}};

constexpr const char* host_legend =
    "times     median of {} repetitions or more, each that of the slowest rank;\n"
    "          ± half the distance of the quartiles; all: each shape as often as it has layers\n"
    "memory    GB/s as if everything came from memory and went there. Both sums are in % of read,\n"
    "          a plain read of x; the others in % of copy, the faster of the C library's and one\n"
    "          past the cache. forward counts 2 reads and 1 write, backward 4 and 1, copy 1\n"
    "          and 1; the kernels by themselves: sums 1 read, backward sums 2, normalize 1 and 1,\n"
    "          input gradient 2 and 1. Tensors take turns, so that they do come from memory. More\n"
    "          than 100 %: of a layer, its second read came from a cache; of a kernel, it reads\n"
    "          more than it writes, which is faster\n";
constexpr const char* device_legend =
    "times     by the device's clock, median of {} repetitions or more, each that of the slowest\n"
    "          rank and of {} in a row; ± half the distance of the quartiles; all: each shape as\n"
    "          often as it has layers\n"
    "memory    GB/s as if everything came from the device's memory and went there, and in % of\n"
    "          copy, CUDA's within that memory. forward counts 2 reads and 1 write, backward 4\n"
    "          and 1, copy 1 and 1; the kernels by themselves: sums 1 read, normalize 1 and 1,\n"
    "          backward sums 2 reads, input gradient 2 and 1. Tensors take turns, so that they do\n"
    "          come from memory. More than 100 %: of a layer, its second read came from the L2;\n"
    "          of a kernel, reading is faster than writing\n";

bool has(const BenchReport& report, Rival rival) {
  return std::ranges::count(report.options.rivals, rival) > 0;
}

/// Writes a number with three digits: "123", "12.3", "1.23", "0.123".
std::string three_digits(double value) {
  const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;
  return fmt::format("{:.{}f}", value, decimals);
}

/// Writes a time: "12.3 ms".
std::string time_text(double seconds) {
  struct Unit {
    const char* name;
    double seconds;
  };
  for (const Unit unit : {Unit{"s", 1}, Unit{"ms", 1e-3}, Unit{"us", 1e-6}}) {
    if (seconds >= 0.9995 * unit.seconds) {
      return fmt::format("{} {}", three_digits(seconds / unit.seconds), unit.name);
    }
  }
  return fmt::format("{:.0f} ns", seconds * 1e9);
}

std::string time_cell(const LayerTimes& times, Phase phase) {
  const Summary& summary = times.phases.at(phase);
  return fmt::format("{} ±{:>3.0f}%", time_text(summary.median), 100 * summary.spread());
}

/// Returns the sum of the medians over all layers of the network. [s]
double network_seconds(const BenchReport& report, Phase phase) {
  return std::accumulate(report.layers.begin(), report.layers.end(), 0.0,
                         [&](double sum, const LayerTimes& times) {
                           return sum + times.layer.layers * times.phases.at(phase).median;
                         });
}

int network_layers(const BenchReport& report) {
  return std::accumulate(report.layers.begin(), report.layers.end(), 0,
                         [](int sum, const LayerTimes& times) { return sum + times.layer.layers; });
}

std::string times_table(const BenchReport& report) {
  Table table({{"shape per rank", Align::left},
               {"layers"},
               {"sums"},
               {"exchange"},
               {"normalize"},
               {"forward"},
               {"backward"}});
  for (const LayerTimes& times : report.layers) {
    std::vector<std::string> row = {times.layer.text, fmt::format("{}", times.layer.layers)};
    for (const Phase phase : own_phases) {
      row.push_back(time_cell(times, phase));
    }
    table.add(row);
  }
  if (report.layers.size() > 1) {
    std::vector<std::string> row = {"all", fmt::format("{}", network_layers(report))};
    for (const Phase phase : own_phases) {
      row.push_back(time_text(network_seconds(report, phase)) + "      ");  // has no spread
    }
    table.add_rule();
    table.add(row);
  }
  return table.text();
}

std::string bandwidth_cell(const LayerTimes& times, Phase phase, DType dtype) {
  const double own = times.bandwidth(phase, dtype);
  return fmt::format("{} {:>4.0f}%", three_digits(own), 100 * own / times.copy_bandwidth(dtype));
}

std::string percent_cell(double own, double limit) {
  return fmt::format("{:.0f}%", 100 * own / limit);
}

/// Writes a rival's time and what multiple of ours it is: "64.7 ms x4.90".
std::string rival_cell(double seconds, double own) {
  return fmt::format("{} x{:.2f}", time_text(seconds), seconds / own);
}

std::string bandwidth_table(const BenchReport& report) {
  std::vector<Column> columns = {{"of memory", Align::left}};
  if (!report.device) {
    columns.push_back({"read GB/s"});
  }
  for (const char* name : {"sums", "backward sums", "copy GB/s", "normalize", "input gradient",
                           "forward", "backward"}) {
    columns.push_back({name});
  }
  Table table(columns);
  const DType dtype = report.options.dtype;
  for (const LayerTimes& times : report.layers) {
    const double read = times.read_bandwidth(dtype);
    const double copy = times.copy_bandwidth(dtype);
    std::vector<std::string> row = {times.layer.text};
    if (!report.device) {
      row.push_back(three_digits(read));
    }
    row.push_back(percent_cell(times.bandwidth(Phase::sums, dtype), read));
    row.push_back(percent_cell(times.bandwidth(Phase::backward_sums, dtype), read));
    row.push_back(three_digits(copy));
    row.push_back(percent_cell(times.bandwidth(Phase::normalize, dtype), copy));
    row.push_back(percent_cell(times.bandwidth(Phase::input_gradient, dtype), copy));
    row.push_back(bandwidth_cell(times, Phase::forward, dtype));
    row.push_back(bandwidth_cell(times, Phase::backward, dtype));
    table.add(row);
  }
  return table.text();
}

/// Writes the comparison with rivals, "" without any.
std::string rivals_table(const BenchReport& report) {
  std::vector<Column> columns = {{"beside others", Align::left}};
  for (const RivalColumns& rival : rivals) {
    if (has(report, rival.rival)) {
      columns.push_back({fmt::format("{} forward", rival.name)});
      columns.push_back({fmt::format("{} backward", rival.name)});
    }
  }
  if (columns.size() == 1) {
    return "";
  }
  Table table(columns);
  for (const LayerTimes& times : report.layers) {
    std::vector<std::string> row = {times.layer.text};
    for (const RivalColumns& rival : rivals) {
      for (const auto& [theirs, ours] :
           {std::pair(rival.forward, Phase::forward), std::pair(rival.backward, Phase::backward)}) {
        if (has(report, rival.rival)) {
          const auto found = times.phases.find(theirs);
          row.push_back(found == times.phases.end()
                            ? "none"
                            : rival_cell(found->second.median, times.phases.at(ours).median));
        }
      }
    }
    table.add(row);
  }
  return table.text() + "\n";
}

std::string network_comparison(const BenchReport& report) {
  std::string text;
  for (const RivalColumns& rival : rivals) {
    const bool everywhere = std::ranges::all_of(report.layers, [&](const LayerTimes& times) {
      return times.phases.contains(rival.forward);
    });
    if (has(report, rival.rival) && everywhere && report.layers.size() > 1) {
      const double theirs =
          network_seconds(report, rival.forward) + network_seconds(report, rival.backward);
      const double ours =
          network_seconds(report, Phase::forward) + network_seconds(report, Phase::backward);
      text += fmt::format("{} layers, forward and backward: synchronized {}, {} {} (x{:.2f})\n",
                          network_layers(report), time_text(ours), rival.name, time_text(theirs),
                          theirs / ours);
    }
  }
  return text;
}

std::string legend(const BenchReport& report) {
  std::size_t fewest = report.layers.front().phases.begin()->second.count;
  for (const LayerTimes& times : report.layers) {
    fewest = std::min(fewest, times.phases.begin()->second.count);
  }
  std::string text =
      report.device ? fmt::format(device_legend, fewest, laps) : fmt::format(host_legend, fewest);
  if (has(report, Rival::onednn)) {
    const LayerTimes& first = report.layers.front();
    text += first.phases.contains(Phase::onednn_forward)
                ? fmt::format("oneDNN    {}, on each rank's own samples; x: its time / ours\n",
                              first.rival_text)
                : fmt::format("oneDNN    none: {}\n", first.rival_text);
  }
  if (has(report, Rival::local)) {
    text += "local     the same layer without exchange; x: its time / ours\n";
  }
  if (has(report, Rival::exact)) {
    text +=
        "exact     the same layer with sums that do not depend on the ranks; x: its time / ours\n";
  }
  return text;
}

std::string heading(const BenchReport& report) {
  const std::string ranks =
      fmt::format("syncbn bench: {} rank{}", report.ranks, report.ranks == 1 ? "" : "s");
  const std::string data =
      fmt::format("{}, {}", to_string(report.options.dtype), to_string(report.options.layout));
  if (report.device) {
    return fmt::format("{}, {}\non {}, {}\n\n", ranks, data, report.device->name, report.transport);
  }
  return fmt::format("{} of {} thread{}, {}, {}\n\n", ranks, report.threads,
                     report.threads == 1 ? "" : "s", data, instruction_set());
}

}  // namespace

std::string report_text(const BenchReport& report) {
  return heading(report) + times_table(report) + "\n" + bandwidth_table(report) + "\n" +
         rivals_table(report) + legend(report) + network_comparison(report);
}

}  // namespace syncbn::app::bench
