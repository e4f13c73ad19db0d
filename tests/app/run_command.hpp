// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include <gtest/gtest.h>

#include "app/command.hpp"

namespace syncbn::test {

/// Runs a command as the tool does, on these ranks. Returns its exit code.
inline int run_command(const std::unique_ptr<app::Command>& command,
                       const app::Arguments& arguments, const Communicator& ranks) {
  EXPECT_TRUE(command->command_line().parse(arguments)) << "asks for help";
  return command->run({ranks, "threads", "", nullptr, "", nullptr});
}

}  // namespace syncbn::test
