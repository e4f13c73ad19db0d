// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "syncbn/backend.hpp"
#include "syncbn/version.hpp"

#include "app/bench/report.hpp"

namespace syncbn::app::bench {
namespace {

nlohmann::ordered_json to_json(const LayerTimes& times, DType dtype) {
  nlohmann::ordered_json phases;
  for (const auto& [phase, summary] : times.phases) {
    nlohmann::ordered_json entry = {{"repetitions", summary.count},
                                    {"median", summary.median},
                                    {"lower_quartile", summary.lower_quartile},
                                    {"upper_quartile", summary.upper_quartile},
                                    {"min", summary.min},
                                    {"max", summary.max}};
    if (passes(phase) > 0) {
      entry["gb_per_s"] = times.bandwidth(phase, dtype);
    }
    phases[std::string(to_string(phase))] = entry;
  }
  nlohmann::ordered_json layer = {
      {"shape", times.layer.text},       {"samples", times.layer.shape.n},
      {"channels", times.layer.shape.c}, {"positions", times.layer.shape.s},
      {"layers", times.layer.layers},    {"phases", phases}};
  if (!times.rival_text.empty()) {
    layer["onednn"] = times.rival_text;
  }
  return layer;
}

}  // namespace

std::string report_json(const BenchReport& report) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerTimes& times : report.layers) {
    layers.push_back(to_json(times, report.options.dtype));
  }
  const nlohmann::ordered_json whole = {
      {"version", version()},
      {"ranks", report.ranks},
      {"threads", report.device ? nullptr : nlohmann::ordered_json(report.threads)},
      {"transport", report.transport},
      {"instruction_set", report.device ? nullptr : nlohmann::ordered_json(instruction_set())},
      {"device", app::to_json(report.device)},
      {"dtype", to_string(report.options.dtype)},
      {"layout", to_string(report.options.layout)},
      {"layers", layers}};
  return whole.dump(2) + "\n";
}

std::string report_csv(const BenchReport& report) {
  std::string text =
      "shape,layers,phase,repetitions,median_s,lower_quartile_s,upper_quartile_s,min_s,max_s,"
      "gb_per_s\n";
  for (const LayerTimes& times : report.layers) {
    for (const auto& [phase, summary] : times.phases) {
      text += fmt::format(
          "{},{},{},{},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{}\n", times.layer.text,
          times.layer.layers, to_string(phase), summary.count, summary.median,
          summary.lower_quartile, summary.upper_quartile, summary.min, summary.max,
          passes(phase) == 0 ? ""
                             : fmt::format("{:.4g}", times.bandwidth(phase, report.options.dtype)));
    }
  }
  return text;
}

}  // namespace syncbn::app::bench
