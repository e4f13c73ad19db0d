// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace syncbn::comm {

/// Counts the subjects of each name that a rank exchanges values of over its group, so that each
/// can have a name of its own.
///
/// Subjects stay counted when they are gone. Ranks make objects in the same order, but may destroy
/// them at different times (where a garbage collector decides).
class SubjectCounts {
 public:
  /// Returns 0, 1, 2, ... from call to call with the same name. The name may be empty.
  std::int64_t count(std::string_view name) {
    const auto found = counts_.find(name);
    return found != counts_.end() ? found->second++ : (counts_.emplace(name, 1), 0);
  }

 private:
  std::map<std::string, std::int64_t, std::less<>> counts_;
};

}  // namespace syncbn::comm
