// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace syncbn::app {

/// Returns the text as a POSIX shell has to be given it for one word: in quotes if it has
/// characters that mean something to a shell.
std::string shell_word(const std::string& text);

}  // namespace syncbn::app
