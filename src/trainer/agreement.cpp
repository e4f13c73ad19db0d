// SPDX-License-Identifier: Apache-2.0
#include "trainer/agreement.hpp"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <functional>
#include <map>
#include <new>
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
  } catch (const std::bad_alloc&) {
    return "memory ran out";
  } catch (const std::exception& error) {
    const std::string reason = error.what();
    return reason.empty() ? "unknown error" : reason;
  }
}

/// Returns the text that all ranks give, or else which ranks give what, without those that give "".
std::string describe(const std::vector<std::string>& texts) {
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    if (!texts[rank].empty()) {
      ranks_of[texts[rank]].push_back(rank);
    }
  }
  if (ranks_of.empty() || ranks_of.begin()->second.size() == texts.size()) {
    return texts.front();
  }
  std::vector<std::string> parts;
  for (const auto& [text, ranks] : ranks_of) {
    parts.push_back(fmt::format("{} {}: {}", ranks.size() == 1 ? "rank" : "ranks",
                                fmt::join(ranks, ", "), text));
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace

std::vector<std::string> gather_texts(const Communicator& ranks, const std::string& mine) {
  const std::vector<double> lengths =
      ranks.all_gather(std::vector<double>{static_cast<double>(mine.size())});
  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  if (longest == 0) {
    return std::vector<std::string>(lengths.size());
  }
  // Each number carries one character.
  std::vector<double> padded(mine.begin(), mine.end());
  padded.resize(longest);
  const std::vector<double> all = ranks.all_gather(padded);
  std::vector<std::string> texts(lengths.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i] != 0) {
      texts[i / longest] += static_cast<char>(all[i]);
    }
  }
  return texts;
}

void agree(const Communicator& ranks, const std::function<void()>& work) {
  const std::string reasons = describe(gather_texts(ranks, attempt(work)));
  if (!reasons.empty()) {
    throw FileError(reasons);
  }
}

std::string differences(const Communicator& ranks, const std::string& mine) {
  const std::vector<std::string> texts = gather_texts(ranks, mine);
  const bool alike =
      std::adjacent_find(texts.begin(), texts.end(), std::not_equal_to<>()) == texts.end();
  return alike ? "" : describe(texts);
}

}  // namespace syncbn::trainer
