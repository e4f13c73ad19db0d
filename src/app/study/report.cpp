// SPDX-License-Identifier: Apache-2.0
#include "app/study/report.hpp"

#include <algorithm>
#include <cstddef>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/shell_word.hpp"

namespace syncbn::app::study {
namespace {

Json to_json(const StudyRun& done) {
  return {{"name", done.run->name},       {"experiments", done.run->experiments},
          {"variant", done.run->variant}, {"seed", done.run->options.seed},
          {"ranks", done.run->ranks},     {"command", command_of(*done.run)},
          {"seconds", done.seconds},      {"results", done.results}};
}

Json to_json(const Experiment& experiment, const Results& results) {
  const std::vector<Claim> claims = experiment.claims(results);
  Json listed = Json::array();
  for (const Claim& claim : claims) {
    listed.push_back(to_json(claim));
    listed.back()["amount"] = amount(claim);
  }
  Json result = {{"name", experiment.name},
                 {"title", experiment.title},
                 {"source", experiment.source},
                 {"verdict", to_string(verdict(claims))},
                 {"claims", listed}};
  for (const auto& [field, value] : experiment.fields) {
    result[field] = value(results);
  }
  return result;
}

/// Returns a number as study.csv has it: nothing for null.
std::string cell_of(const Json& number) {
  return number.is_null() ? "" : number.dump();
}

/// Returns the factors of all variants, in the order in which they come up.
std::vector<std::string> factors_of(std::span<const StudyRun> runs) {
  std::vector<std::string> factors;
  for (const StudyRun& done : runs) {
    for (const auto& [factor, value] : done.run->variant.items()) {
      if (std::ranges::find(factors, factor) == factors.end()) {
        factors.push_back(factor);
      }
    }
  }
  return factors;
}

}  // namespace

Json to_json(std::span<const Experiment> experiments, std::span<const StudyRun> runs,
             const std::vector<std::uint64_t>& seeds) {
  std::map<std::string, Json> found;
  Json listed_runs = Json::array();
  for (const StudyRun& done : runs) {
    found[done.run->name] = done.results;
    listed_runs.push_back(to_json(done));
  }
  const Results results(std::move(found), seeds);
  Json listed = Json::array();
  for (const Experiment& experiment : experiments) {
    listed.push_back(to_json(experiment, results));
  }
  return {{"experiments", listed}, {"runs", listed_runs}};
}

std::string to_csv(std::span<const StudyRun> runs) {
  const std::vector<std::string> factors = factors_of(runs);
  std::string text =
      fmt::format("experiment,run,{},seed,quantity,step,value\n", fmt::join(factors, ","));
  for (const StudyRun& done : runs) {
    std::string start = fmt::format("{},{}", done.run->experiments.front(), done.run->name);
    for (const std::string& factor : factors) {
      start += ",";
      if (done.run->variant.contains(factor)) {
        start += text_of(done.run->variant[factor]);
      }
    }
    start += fmt::format(",{}", done.run->options.seed);
    const Json& series = done.results["series"];
    for (const auto& [quantity, values] : series.items()) {
      for (std::size_t i = 0; quantity != "step" && i < values.size(); ++i) {
        text += fmt::format("{},{},{},{}\n", start, quantity, series["step"][i].dump(),
                            cell_of(values[i]));
      }
    }
    for (const auto& [quantity, value] : done.results["final"].items()) {
      text += fmt::format("{},final_{},,{}\n", start, quantity, cell_of(value));
    }
    text += fmt::format("{},diverged_at,,{}\n", start, cell_of(done.results["diverged_at"]));
  }
  return text;
}

std::string summary(const Json& report, const std::filesystem::path& output) {
  std::string text = "\n";
  for (const Json& experiment : report["experiments"]) {
    const Json& claims = experiment["claims"];
    std::size_t held = 0;
    for (const Json& claim : claims) {
      held += claim["verdict"] == "held" ? 1 : 0;
    }
    const Json& main = claims.front();
    text += fmt::format(
        "{:<16}{:<13}{}: {}; {} of {} claims held\n", experiment["name"].get<std::string>(),
        experiment["verdict"].get<std::string>(), main["quantity"].get<std::string>(),
        main["amount"].get<std::string>(), held, claims.size());
  }
  return text + fmt::format("{} runs in {:.0f} s. To draw them: python -m syncbn.report {}\n",
                            report["runs"].size(), report["seconds"].get<double>(),
                            shell_word(output.string()));
}

}  // namespace syncbn::app::study
