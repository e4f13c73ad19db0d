// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/internal_api.hpp"

#include "comm/group/flight_record.hpp"

namespace syncbn::comm {

/// Returns the name by which records and messages call this machine.
SYNCBN_INTERNAL_API std::string host_name();

/// The rank that a record is about. `group` is a number that its ranks share and no other group
/// has, or 0 if there is none.
struct Member {
  std::uint64_t group;
  int rank, size;
};

/// Returns a flight record as JSON, without exchanges for null. Facts that are 0 are left out:
/// {"group": "5c9e6a1f00b3d472" or null, "rank": 0, "size": 2, "host": "a", "process": 4711,
/// "failure": "", "exchanges": [{"sequence": 1, "operation": "delivery", "subject": "apples",
/// "count": 64, "dtype": "f32", "options": "cooled", "facts": {"boxes": 2}, "values": 130,
/// "started": 1764150000.123456 [s since 1970], "seconds": 1e-6 or null if not finished}]}
std::string to_json(const FlightRecord* record, const Member& member, std::string_view failure);

/// Writes a record to a new file HOST-PROCESS-NUMBER.json in the directory of flight records, if
/// there is one. A file or link that has the name already is left alone, because others can guess
/// the name; the next number is tried. A failure to write is reported, not thrown, because an
/// error is being handled already.
void keep_flight_record(const std::string& json) noexcept;

}  // namespace syncbn::comm
