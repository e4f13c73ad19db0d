// SPDX-License-Identifier: Apache-2.0
#include "app/table.hpp"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

namespace syncbn::app {
namespace {

/// Returns how many characters a UTF-8 text shows.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string padded(const std::string& text, std::size_t width, Align align) {
  const std::string blanks(width - width_of(text), ' ');
  return align == Align::left ? text + blanks : blanks + text;
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<std::string> row) {
  rows_.push_back(std::move(row));
}

void Table::add_rule() {
  rows_.emplace_back();
}

std::string Table::text() const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = width_of(columns_[i].caption);
    for (const std::vector<std::string>& row : rows_) {
      width = row.empty() ? width : std::max(width, width_of(row[i]));
    }
    widths.push_back(width);
  }
  const std::size_t across = std::accumulate(widths.begin(), widths.end(), 2 * (widths.size() - 1));

  std::string out;
  const auto add_line = [&](auto cell) {
    std::string line;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      line += "  " + padded(cell(i), widths[i], columns_[i].align);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  const auto add_line_across = [&] { out += "  " + std::string(across, '-') + "\n"; };
  add_line([&](std::size_t i) { return columns_[i].caption; });
  add_line_across();
  for (const std::vector<std::string>& row : rows_) {
    if (row.empty()) {
      add_line_across();
    } else {
      add_line([&](std::size_t i) { return row[i]; });
    }
  }
  return out;
}

}  // namespace syncbn::app
