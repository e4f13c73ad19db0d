// SPDX-License-Identifier: Apache-2.0
#include "trainer/agreement.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "syncbn/error.hpp"

namespace syncbn::trainer {
namespace {

std::string attempt(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const std::exception& error) {
    const std::string reason = error.what();
    return reason.empty() ? "unknown error" : reason;
  }
}

/// Every rank's text, one character a number.
std::vector<std::string> gather(const Communicator& ranks, const std::string& mine,
                                std::size_t longest) {
  std::vector<double> padded(mine.begin(), mine.end());
  padded.resize(longest);
  const std::vector<double> all = ranks.all_gather(padded);
  std::vector<std::string> texts(static_cast<std::size_t>(ranks.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != 0) {
      texts[i / longest] += static_cast<char>(all[i]);
    }
  }
  return texts;
}

std::string describe(const std::vector<std::string>& reasons) {
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < reasons.size(); ++rank) {
    if (!reasons[rank].empty()) {
      ranks_of[reasons[rank]].push_back(rank);
    }
  }
  if (ranks_of.begin()->second.size() == reasons.size()) {
    return ranks_of.begin()->first;
  }
  std::vector<std::string> parts;
  for (const auto& [reason, ranks] : ranks_of) {
    parts.push_back(fmt::format("{} {}: {}", ranks.size() == 1 ? "rank" : "ranks",
                                fmt::join(ranks, ", "), reason));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace

void agree(const Communicator& ranks, const std::function<void()>& work) {
  const std::string reason = attempt(work);
  const std::vector<double> lengths =
      ranks.all_gather(std::vector<double>{static_cast<double>(reason.size())});
  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  if (longest > 0) {
    throw FileError(describe(gather(ranks, reason, longest)));
  }
}

}  // namespace syncbn::trainer
