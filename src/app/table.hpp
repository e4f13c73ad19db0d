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

/// Rows of text under captions, columns as wide as their widest cell.
class Table {
 public:
  explicit Table(std::vector<Column> columns);

  /// One cell a column.
  void add(std::vector<std::string> row);
  /// A line across, before the rows that follow.
  void add_rule();

  /// Indented by two blanks, two blanks between columns; lines end in a newline.
  std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;  ///< an empty row is a rule
};

}  // namespace syncbn::app
