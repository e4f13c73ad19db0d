// SPDX-License-Identifier: Apache-2.0
#include "support/delayed_streams.hpp"

namespace syncbn::test {

void delay_streams() {}

}  // namespace syncbn::test
