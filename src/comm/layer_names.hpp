// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace syncbn::comm {

/// How many layers of each name a rank has made over its group.
///
/// They stay counted when they are gone: when an object ends may differ from rank to rank (where a
/// garbage collector decides), the order in which objects are made does not.
class LayerNames {
 public:
  /// 0, 1, 2, ... from call to call of the same name; "" is that of unnamed layers.
  std::int64_t count(std::string_view name) {
    const auto found = counts_.find(name);
    return found != counts_.end() ? found->second++ : (counts_.emplace(name, 1), 0);
  }

 private:
  std::map<std::string, std::int64_t, std::less<>> counts_;
};

}  // namespace syncbn::comm
