// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "comm/descriptor.hpp"
#include "comm/fingerprint_words.hpp"
#include "comm/layer_names.hpp"

struct CUstream_st;

namespace syncbn::comm {

/// cudaStream_t
using Stream = CUstream_st*;

/// How values in device memory are summed over the ranks of a group, in the caller's stream.
///
/// Made on the device that is current then, whose streams and memory it is given from then on. Its
/// messages follow each other: in one stream, or in several that wait for each other.
class DeviceSum {
 public:
  /// Doubles behind a message's values that belong to the exchange.
  static constexpr std::size_t own_words = fingerprint_words;

  virtual ~DeviceSum() = default;

  /// See LayerNames.
  std::int64_t count_layer(std::string_view name) { return layers_.count(name); }

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Collective. Puts on `stream` the sum over the ranks of `length` doubles in device memory, in
  /// place, the same bits on every rank; own_words more behind them are overwritten. All ranks put
  /// their messages in the same order; the first of a layer, pass and length waits for the other
  /// ranks' hosts. Throws CommError as `poll` does.
  virtual void all_reduce(const Descriptor& what, double* values, std::size_t length,
                          Stream stream) = 0;

  /// Throws CommError if a message has failed so far: to tell who did what, or who is missing, it
  /// is then collective. Else it looks at memory of the host's and returns.
  virtual void poll() = 0;

  /// Waits for what was put on `stream`. Throws CommError as `poll` does, as soon as a message has
  /// failed, by a missing rank's deadline at the latest.
  virtual void synchronize(Stream stream) = 0;

  /// Collective. That of the ranks with the same color, ordered by rank here.
  virtual std::unique_ptr<DeviceSum> split(int color) = 0;

 private:
  LayerNames layers_;
};

}  // namespace syncbn::comm
