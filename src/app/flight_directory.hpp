// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// Collective. Makes the directory that --flight-record or SYNCBN_FLIGHT_RECORD names, and tries
/// whether files can be made there, so that the user learns it now and not when there is something
/// to write. An empty path means none; some ranks may have one and others not. Throws UsageError on
/// every rank if this fails on any. Call it when all arguments have been accepted, so that a
/// refused command leaves nothing behind.
void prepare_flight_directory(const Communicator& world, const std::filesystem::path& directory);

}  // namespace syncbn::app
