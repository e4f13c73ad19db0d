// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "syncbn/communicator.hpp"

namespace syncbn::trainer {

/// Collective. Runs `work`, which is local, on every rank. If it throws on any, every rank throws
/// FileError with the reasons and the numbers of those ranks: nobody goes on alone, to wait for the
/// others in vain.
void agree(const Communicator& ranks, const std::function<void()>& work);

/// Collective. Returns the texts that the ranks give, in rank order.
std::vector<std::string> gather_texts(const Communicator& ranks, const std::string& mine);

/// Collective. Returns "" if all ranks give the same text, else, on every rank, who gives which:
/// "ranks 0, 2: step 4; rank 1: step 8".
std::string differences(const Communicator& ranks, const std::string& mine);

}  // namespace syncbn::trainer
