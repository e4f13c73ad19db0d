// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

namespace syncbn::app {

/// Json keeps the order in which an object's fields were added.
using Json = nlohmann::ordered_json;

}  // namespace syncbn::app
