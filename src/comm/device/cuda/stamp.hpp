// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two kernels surround a sum on the device, so that ranks which do not sum the same are noticed
// there:
//
//   Stamp    counts the message, and writes its fingerprint behind the values     1 thread
//   (sum)    adds up values and fingerprint words over the ranks: NCCL's all-reduce
//   Verify   compares the words' sum with what equal words have; if it differs,   1 block
//            the values become NaN, on every rank, and so do those of later messages
//
// The count is kept on the device, so that replays of a graph count as well.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"
#include "core/scrambled.hpp"

#include "comm/device/board.hpp"
#include "comm/group/fingerprint_words.hpp"

struct CUstream_st;

namespace syncbn::comm::cuda {

/// Counts a rank's messages, in device memory. Both fields start as 0.
struct Tally {
  std::uint64_t messages;  ///< how many were begun
  std::uint64_t failed;    ///< 1 once the ranks have disagreed
};

/// Describes a message to both kernels. The pointers are to device memory, but the board is in
/// pinned memory.
struct Stamped {
  std::uint64_t what;  ///< fingerprint of its descriptor and length
  std::uint64_t plan;  ///< number of that pair (Agreement::Plan), for the board
  double* words;       ///< [fingerprint_words], behind the values
  Tally* tally;
  Board* board;
  const std::uint64_t* shared = nullptr;  ///< see DeviceMessageView::state

  SYNCBN_HOST_DEVICE std::uint64_t state() const { return shared != nullptr ? *shared : 0; }
  /// Returns the fingerprint of descriptor, length, message count and state().
  SYNCBN_HOST_DEVICE std::uint64_t fingerprint() const {
    return scrambled(what + tally->messages * 0x9e3779b97f4a7c15 + scrambled(state()));
  }
};

struct Stamp {
  Stamped message;

  SYNCBN_HOST_DEVICE void operator()() const {
    ++message.tally->messages;
    const std::uint64_t fingerprint = message.fingerprint();
    for (std::size_t i = 0; i < fingerprint_words; ++i) {
      message.words[i] = fingerprint_word(fingerprint, i);
    }
    note(message.board->started_plan, message.plan);
    post(message.board->started, message.tally->messages);
  }
};

struct Verify {
  static constexpr int threads = 256;

  Stamped message;
  double* values;  ///< [length]
  std::size_t length;
  int ranks;

  /// Does the part of one thread. No thread waits for another.
  SYNCBN_HOST_DEVICE void operator()(std::size_t thread) const {
    Tally& tally = *message.tally;
    Board& board = *message.board;
    const bool equal = all_equal(message.words, message.fingerprint(), ranks);
    const bool cancelled = look(board.cancelled) != 0;
    const bool failed = look(tally.failed) != 0;
    if (!equal || cancelled || failed) {
      for (std::size_t i = thread; i < length; i += threads) {
        values[i] = std::numeric_limits<double>::quiet_NaN();
      }
    }
    if (thread != 0) {
      return;
    }
    if (!equal && !cancelled && !failed) {
      note(tally.failed, 1);  // threads that see it find the words different, too
      board.disagreed_plan = message.plan;
      board.disagreed_state = message.state();
      post(board.disagreed, tally.messages);
    }
    post(board.finished, tally.messages);
  }
};

/// Put the kernel on the stream. They throw DeviceError if it cannot be launched.
void launch(const Stamp& kernel, CUstream_st* stream);
void launch(const Verify& kernel, CUstream_st* stream);

}  // namespace syncbn::comm::cuda
