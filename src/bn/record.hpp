// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "syncbn/batch_norm.hpp"

#include "bn/operations.hpp"
#include "channels/finalize.hpp"

namespace syncbn {

namespace bn {
struct ForwardArguments;
struct Layer;
class Place;

/// A ForwardNote says which forward it was, and with what.
struct ForwardNote {
  Shape shape;
  DType dtype = DType::f32;
  Layout layout = Layout::channels_first;
  bool had_residual = false;
  bool had_weights = false;
  bool in_place = false;
  bool frozen = false;             ///< normalized with the running statistics
  std::int64_t blocks = 1;         ///< blocks of channels in its backward, the same on all ranks
  std::string layer;               ///< name of the layer whose forward it was
  std::uint64_t layer_number = 0;  ///< that layer's number, unique in this process
  std::int64_t forward = 0;        ///< number of that forward, from 1; 0: none yet; -1: an infer

  /// Returns the forward's number for the ranks to compare, 0 for an infer.
  std::int64_t counted_forward() const { return frozen ? 0 : forward; }

  Given given() const {
    return frozen         ? Given::frozen
           : in_place     ? Given::in_place
           : had_residual ? Given::residual
                          : Given::x;
  }
};

}  // namespace bn

struct ForwardRecord::Impl {
  static Impl& of(ForwardRecord& record) { return *record.impl_; }
  static const Impl& of(const ForwardRecord& record) { return *record.impl_; }

  /// Allocates what the layer's arrays need beyond what is there; the record stays as it is. Throws
  /// InvalidArgument if the memory is the caller's and not for such a layer.
  void make_room(const bn::Layer& layer, const bn::Place& place);
  /// Lays out the layer's arrays, after make_room. What the record held is lost.
  void lay_out(const bn::Layer& layer);
  /// Notes a forward of the layer.
  void note_forward(bn::Layer& layer, const bn::ForwardArguments& arguments, std::int64_t blocks);
  /// Notes an infer of the layer, of which there is no count: ranks may differ in how many they
  /// make.
  void note_infer(const bn::Layer& layer, const bn::ForwardArguments& arguments);

  /// The memory of a record's arrays.
  struct Memory {
    double* data = nullptr;
    std::int64_t capacity = 0;    ///< channels that it has room for
    Device device;                ///< where it is
    std::shared_ptr<void> owner;  ///< none if it is the caller's
  };
  Memory memory;
  Memory next;  ///< room that was made, if `memory` has none
  bool is_callers = false;
  std::vector<std::shared_ptr<void>> outgrown;  ///< a stream or a graph may still use it
  channels::StatisticsArrays arrays;            ///< for the layer of the last forward
  bn::ForwardNote note;
};

}  // namespace syncbn
