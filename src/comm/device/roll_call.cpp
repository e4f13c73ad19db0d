// SPDX-License-Identifier: Apache-2.0
#include "comm/device/roll_call.hpp"

#include <algorithm>
#include <span>
#include <vector>

#include "comm/group/fingerprint.hpp"

namespace syncbn::comm {
namespace {

// A rank's row holds its standing, the four 16-bit pieces of its fingerprint, and its descriptor.
constexpr std::size_t pieces = fingerprint_words / 2;
constexpr std::size_t row_length = 1 + pieces + descriptor_words;

using Row = std::span<double, row_length>;

void write(const Call& call, Row row) {
  row[0] = static_cast<double>(call.standing);
  std::ranges::copy_n(to_words(call.fingerprint).begin(), pieces, row.begin() + 1);
  pack(call.what, call.number, row.last<descriptor_words>());
}

std::string verdict(const Operation& own, std::span<double> rows) {
  const auto row = [&](std::size_t rank) {
    return Row(rows.subspan(rank * row_length).first<row_length>());
  };
  const std::size_t ranks = rows.size() / row_length;
  const auto is = [](Row of, Standing standing) { return of[0] == static_cast<double>(standing); };
  bool all_begin = true;
  bool any_waited = false;
  bool all_disagreed = true;
  bool same = true;
  std::vector<double> packed;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    all_begin = all_begin && is(row(rank), Standing::begins);
    any_waited = any_waited || is(row(rank), Standing::waited);
    all_disagreed = all_disagreed && is(row(rank), Standing::disagreed);
    same = same && std::ranges::equal(row(rank).subspan(1), row(0).subspan(1));
    packed.insert(packed.end(), row(rank).end() - descriptor_words, row(rank).end());
  }
  if (same && all_begin) {
    return "";
  }
  if (same && any_waited) {
    return "no rank is missing: all of them have it on their device. Do the devices reach each "
           "other?";
  }
  if (same && all_disagreed) {
    return "the all-reduce did not add up the ranks' messages (all have sent the same one). If it "
           "is a callback of yours: does it put the whole sum on the stream that it is given?";
  }
  return describe_disagreement(own, packed);
}

}  // namespace

std::string call_roll(Group& group, const Call& own) {
  std::vector<double> rows(static_cast<std::size_t>(group.size()) * row_length, 0.0);
  const std::size_t begin = static_cast<std::size_t>(group.rank()) * row_length;
  write(own, Row(std::span(rows).subspan(begin).first<row_length>()));
  const Descriptor message{.operation = &operations::roll_call,
                           .count = static_cast<std::int64_t>(rows.size())};
  group.exchange(message, rows);
  return verdict(*own.what.operation, rows);
}

}  // namespace syncbn::comm
