// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace syncbn::app {

enum class Align : std::uint8_t { left, right };

struct Column {
  std::string caption;
  Align align = Align::right;
};

/// A Table has rows of text under captions; each column is as wide as its widest cell.
class Table {
 public:
  explicit Table(std::vector<Column> columns);

  /// Adds a row, with one cell for each column.
  void add(std::vector<std::string> row);
  /// Adds a line across.
  void add_rule();

  /// Returns the table, indented by two blanks, with two blanks between columns; each line ends in
  /// a newline.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  ///< an empty row is a line across
};

}  // namespace syncbn::app
