// SPDX-License-Identifier: Apache-2.0
#include "app/doctor/report.hpp"

#include <algorithm>
#include <cstddef>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "syncbn/version.hpp"

#include "app/hosts.hpp"
#include "app/json.hpp"

namespace syncbn::app::doctor {
namespace {

constexpr std::size_t width = 100;

/// Breaks text between words, with `indent` blanks before each line but the first.
std::string wrapped(std::string_view text, std::size_t indent) {
  std::string lines;
  std::size_t column = indent;
  while (!text.empty()) {
    const std::size_t blank = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, blank);
    text.remove_prefix(std::min(blank + 1, text.size()));
    if (column > indent && column + 1 + word.size() > width) {
      lines += '\n';
      lines.append(indent, ' ');
      column = indent;
    } else if (column > indent) {
      lines += ' ';
      ++column;
    }
    lines += word;
    column += word.size();
  }
  return lines;
}

std::string whom(const Finding& finding) {
  return fmt::format("{} {} on {}", finding.ranks.size() == 1 ? "rank" : "ranks",
                     ranges_text(finding.ranks), fmt::join(finding.hosts, ", "));
}

std::string problem_text(const Finding& finding) {
  constexpr std::size_t indent = 9;
  const std::string head =
      fmt::format("{}: {} ({})", finding.name, finding.verdict.seen, whom(finding));
  return fmt::format("{:<{}}{}\n{:{}}{}\n", to_string(finding.verdict.severity), indent,
                     wrapped(head, indent), "", indent, wrapped(finding.verdict.advice, indent));
}

std::size_t count(const Diagnosis& diagnosis, Severity severity) {
  return static_cast<std::size_t>(
      std::ranges::count(diagnosis.findings, severity,
                         [](const Finding& finding) { return finding.verdict.severity; }));
}

std::string counted(std::size_t count, std::string_view what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

/// Returns the names of which the worst finding has that severity, in their order.
std::vector<std::string> names_of(const Diagnosis& diagnosis, Severity severity) {
  std::map<std::string, Severity> worst;
  for (const Finding& finding : diagnosis.findings) {
    Severity& of_name = worst.try_emplace(finding.name, Severity::ok).first->second;
    of_name = std::max(of_name, finding.verdict.severity);
  }
  std::vector<std::string> names;
  for (const Finding& finding : diagnosis.findings) {
    if (worst.at(finding.name) == severity &&
        std::ranges::find(names, finding.name) == names.end()) {
      names.push_back(finding.name);
    }
  }
  return names;
}

std::string names_text(std::string_view caption, const std::vector<std::string>& names) {
  constexpr std::size_t indent = 9;
  return names.empty() ? ""
                       : fmt::format("{:<{}}{}\n", caption, indent,
                                     wrapped(fmt::format("{}", fmt::join(names, ", ")), indent));
}

}  // namespace

bool passed(const Diagnosis& diagnosis) {
  return worst(diagnosis.findings) != Severity::error;
}

std::string report_text(const Diagnosis& diagnosis) {
  std::string text =
      fmt::format("syncbn doctor: {} on {}, {}: {}, {}\n\n",
                  counted(static_cast<std::size_t>(diagnosis.ranks), "rank"),
                  counted(static_cast<std::size_t>(diagnosis.hosts), "host"), diagnosis.transport,
                  counted(count(diagnosis, Severity::error), "error"),
                  counted(count(diagnosis, Severity::warning), "warning"));
  for (const Severity severity : {Severity::error, Severity::warning}) {
    for (const Finding& finding : diagnosis.findings) {
      if (finding.verdict.severity == severity) {
        text += problem_text(finding);
      }
    }
  }
  return text + names_text("fine", names_of(diagnosis, Severity::ok)) +
         names_text("unknown", names_of(diagnosis, Severity::unknown));
}

std::string report_json(const Diagnosis& diagnosis) {
  Json findings = Json::array();
  for (const Finding& finding : diagnosis.findings) {
    findings.push_back({{"name", finding.name},
                        {"severity", to_string(finding.verdict.severity)},
                        {"ranks", finding.ranks},
                        {"hosts", finding.hosts},
                        {"seen", finding.verdict.seen},
                        {"advice", finding.verdict.advice}});
  }
  const Json report = {{"format", "syncbn doctor 1"},
                       {"version", version()},
                       {"ranks", diagnosis.ranks},
                       {"hosts", diagnosis.hosts},
                       {"transport", diagnosis.transport},
                       {"pass", passed(diagnosis)},
                       {"findings", findings}};
  return report.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace syncbn::app::doctor
