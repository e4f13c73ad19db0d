// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "syncbn/communicator.hpp"

namespace syncbn::trainer {

/// Collective. Runs `work`, which is local, on every rank. If it throws on any, every rank throws
/// FileError with the reasons and the numbers of those ranks: nobody goes on alone, to wait for the
/// others in vain.
void agree(const Communicator& ranks, const std::function<void()>& work);

}  // namespace syncbn::trainer
