// SPDX-License-Identifier: Apache-2.0
#include "app/run_tool.hpp"

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "support/scratch_directory.hpp"

namespace syncbn::test {

std::string read_file(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

namespace {

constexpr int limit = 300;  ///< [s] until a program counts as hung; a busy machine takes one
}  // namespace

Ended run_shell(const std::string& command) {
  const ScratchDirectory scratch;
  const std::string out = (scratch.path() / "out").string();
  const std::string err = (scratch.path() / "err").string();
  const auto start = std::chrono::steady_clock::now();
  const std::string whole = "timeout --kill-after=5 " + std::to_string(limit) + " sh -c \"" +
                            command + "\" >" + out + " 2>" + err;
  const int status = std::system(whole.c_str());
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  EXPECT_NE(code, 124) << command << " was still running after " << limit << " s";
  return {code, read_file(out), read_file(err), elapsed.count()};
}

std::string at_most_memory([[maybe_unused]] std::size_t bytes) {
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SYNCBN_TEST_SANITIZED
#endif
#endif
#if defined(SYNCBN_TEST_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return "";
#else
  return "ulimit -v " + std::to_string(bytes / 1024) + "; ";
#endif
}

Ended run_tool(const std::string& arguments) {
  return run_shell("OMP_NUM_THREADS=1 exec " SYNCBN_PROGRAM " " + arguments);
}

#ifdef SYNCBN_MPIRUN
std::string mpirun() {
  return SYNCBN_MPIRUN " " SYNCBN_MPIRUN_N;
}

Ended run_ranks(int ranks, const std::string& arguments) {
  return run_shell("exec " + mpirun() + " " + std::to_string(ranks) + " " SYNCBN_PROGRAM " " +
                   arguments);
}
#endif

}  // namespace syncbn::test
