// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "syncbn/communicator.hpp"

namespace syncbn::app {

/// Collective. Makes the directory that --flight-record or SYNCBN_FLIGHT_RECORD names, and tries
/// whether files can be made there: better known now than when there is something to write. An
/// empty path is none, and some ranks may have one. Throws UsageError on every rank if it fails on
/// any. To be called when all arguments have been accepted, since those of a refused command are to
/// leave nothing behind.
void prepare_flight_directory(const Communicator& world, const std::filesystem::path& directory);

}  // namespace syncbn::app
