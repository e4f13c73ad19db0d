// SPDX-License-Identifier: Apache-2.0
#pragma once

// What surrounds a sum on the device, so that ranks which do not sum the same are noticed there:
//
//   Stamp    counts the message, and writes its fingerprint behind the values     1 thread
//   (sum)    of the values and the fingerprint's words, somebody else's
//   Verify   compares the words' sum with what equal words have; if it differs,   1 block
//            the values become NaN, on every rank, and so do those of later messages
//
// The count is kept on the device, so that replays of a graph count as well.

#include <cstddef>
#include <cstdint>
#include <limits>

#include "core/host_device.hpp"
#include "core/scrambled.hpp"

#include "comm/board.hpp"
#include "comm/fingerprint_words.hpp"

struct CUstream_st;

namespace syncbn::comm::cuda {

/// What a rank's device knows of its messages, in its memory. Zeros at first.
struct Tally {
  std::uint64_t messages;  ///< begun
  std::uint64_t failed;    ///< 1 once the ranks have disagreed
};

/// What both need to know of a message, in device memory but for the board.
struct Stamped {
  std::uint64_t what;  ///< fingerprint of its descriptor and length
  std::uint64_t plan;  ///< number of those, for the board
  double* words;       ///< [fingerprint_words]
  Tally* tally;
  Board* board;
  const std::uint64_t* shared = nullptr;  ///< see Descriptor::shared_on_device

  SYNCBN_HOST_DEVICE std::uint64_t state() const { return shared != nullptr ? *shared : 0; }
  /// Of descriptor, length, count and that state.
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
    message.board->started_plan = message.plan;
    post(message.board->started, message.tally->messages);
  }
};

struct Verify {
  static constexpr int threads = 256;

  Stamped message;
  double* values;  ///< [length]
  std::size_t length;
  int ranks;

  /// What one thread does. None waits for another.
  SYNCBN_HOST_DEVICE void operator()(std::size_t thread) const {
    Tally& tally = *message.tally;
    Board& board = *message.board;
    const bool equal = all_equal(message.words, message.fingerprint(), ranks);
    const bool cancelled = look(board.cancelled) != 0;
    if (!equal || cancelled || tally.failed != 0) {
      for (std::size_t i = thread; i < length; i += threads) {
        values[i] = std::numeric_limits<double>::quiet_NaN();
      }
    }
    if (thread != 0) {
      return;
    }
    if (!equal && !cancelled && tally.failed == 0) {
      tally.failed = 1;  // whichever thread sees it has seen the words as well
      board.disagreed_plan = message.plan;
      board.disagreed_state = message.state();
      post(board.disagreed, tally.messages);
    }
    post(board.finished, tally.messages);
  }
};

/// On the stream. Throw DeviceError if the work cannot be launched.
void launch(const Stamp& kernel, CUstream_st* stream);
void launch(const Verify& kernel, CUstream_st* stream);

}  // namespace syncbn::comm::cuda
