// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace syncbn::test {

/// Returns the message of the E that the call throws, or "" if it throws nothing. What else it
/// throws is the caller's.
template <class E, class Call>
std::string failure_of(Call call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace syncbn::test
