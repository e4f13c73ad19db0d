// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace syncbn::comm {

/// Counts the layers of each name that a rank has made over its group.
///
/// Layers stay counted when they are destroyed. Ranks make objects in the same order, but may
/// destroy them at different times (where a garbage collector decides).
class LayerNames {
 public:
  /// Returns 0, 1, 2, ... from call to call with the same name. Unnamed layers have the name "".
  std::int64_t count(std::string_view name) {
    const auto found = counts_.find(name);
    return found != counts_.end() ? found->second++ : (counts_.emplace(name, 1), 0);
  }

 private:
  std::map<std::string, std::int64_t, std::less<>> counts_;
};

}  // namespace syncbn::comm
