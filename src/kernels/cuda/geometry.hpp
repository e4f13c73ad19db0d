// SPDX-License-Identifier: Apache-2.0
#pragma once

// A walk says which thread of which block takes which elements. It follows from the tensor's shape
// and type and from the purpose alone, not from the device, nor from where in memory a tensor lies,
// so that sums have the same bits everywhere.
//
// A thread goes through vectors of 16 bytes. Memory is [rows, channels, plane], dense, and there
// are two walks over it:
//
//   Planes    for planes of 256 elements and more: a block takes one channel and some of its
//             vectors, one behind the other over all rows, a thread every 256th of these. A
//             thread's sums are of the one channel.
//   Columns   for shorter planes, down to 1 (dense layers and channels last): rows are cut into
//             tiles of whole channels, at best 64 vectors wide. A block takes a tile and some rows,
//             a thread the same vector of every so many rows. Each of a thread's sums is of one
//             column, which is an element of the row.
//
// Indices of elements have 64 bits, also the product of all sizes of a tensor.

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <numeric>

#include "syncbn/tensor_view.hpp"

#include "core/host_device.hpp"

#include "channels/fixed_point.hpp"
#include "kernels/extents.hpp"

namespace syncbn::kernels::cuda {

inline constexpr int block_threads = 256;

enum class Purpose : std::uint8_t {
  sums,
  tallies,   ///< sums of integers; a thread adds at most `addable` terms to each
  elements,  ///< elementwise kernels
};

/// Returns in how many blocks a tensor is taken, if its threads then have vectors enough. Sums are
/// taken in two rounds of a large device's multiprocessors (an H200 has room for 264 blocks): a
/// block that ends has much to add up.
constexpr std::int64_t wanted_blocks(Purpose purpose) {
  return purpose == Purpose::sums ? 512 : 1024;
}

/// Returns the fewest vectors of a thread, unless the tensor has fewer. A small tensor takes all
/// multiprocessors, and as long as one vector does to come.
constexpr std::int64_t fewest_vectors(Purpose purpose) {
  return purpose == Purpose::tallies ? 8 : 4;
}

/// Returns the most vectors of a thread. Elementwise kernels have no more to do at a block's end,
/// and the last blocks end at the same time if they are short.
constexpr std::int64_t most_vectors(Purpose purpose) {
  return purpose == Purpose::elements ? 16 : std::numeric_limits<std::int32_t>::max();
}

/// A thread's share of vectors is a multiple of this, but for the rest at the end.
inline constexpr std::int64_t grain = 4;

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Return a block's number, divided. Such numbers have 32 bits, in which dividing is faster.
SYNCBN_HOST_DEVICE constexpr std::int64_t quotient(std::int64_t block, std::int64_t by) {
  return static_cast<std::uint32_t>(block) / static_cast<std::uint32_t>(by);
}
SYNCBN_HOST_DEVICE constexpr std::int64_t remainder(std::int64_t block, std::int64_t by) {
  return static_cast<std::uint32_t>(block) % static_cast<std::uint32_t>(by);
}

/// Returns whether planes are long enough for blocks of their own (Planes).
constexpr bool has_long_planes(const Extents& extents) {
  return extents.plane >= 256;
}

/// A Step is the elements [lo, hi) of the kVector ones from `index` on. It may have none.
template <int kVector>
struct Step {
  std::int64_t index;     ///< in the tensor, a multiple of kVector if the walk is even()
  std::int64_t position;  ///< where their weights begin, see weight_place
  int lo;
  int hi;

  SYNCBN_HOST_DEVICE bool whole() const { return lo == 0 && hi == kVector; }
};

/// A TensorWalk deals out a tensor's vectors to blocks and threads. A thread has `sets` sets of
/// sums; channel(block, thread, i) is that of the i-th element of each of its vectors. Its steps
/// come in order: next() gives one of no element when there are no more, and next_whole() is for
/// the left() steps of which all_whole() says that all are whole.
template <class W>
concept TensorWalk = requires(const W& walk, typename W::Steps& steps, const Step<W::vector>& step,
                              std::int64_t block, int i) {
  { W::sets } -> std::convertible_to<int>;
  { W::at_once } -> std::convertible_to<int>;
  { walk.blocks() } -> std::same_as<std::int64_t>;
  { walk.channel(block, i, i) } -> std::same_as<std::int64_t>;
  { walk.even() } -> std::same_as<bool>;
  { walk.steps(block, i) } -> std::same_as<typename W::Steps>;
  { steps.any() } -> std::same_as<bool>;
  { steps.left() } -> std::same_as<int>;
  { steps.all_whole() } -> std::same_as<bool>;
  { steps.next_whole() } -> std::same_as<Step<W::vector>>;
  { steps.next() } -> std::same_as<Step<W::vector>>;
  { steps.weight_place(step, i) } -> std::same_as<std::int64_t>;
};

template <int kVector>
class Planes {
 public:
  static constexpr int vector = kVector;
  /// A thread has so many sets of sums: one, as all of its elements are of one channel.
  static constexpr int sets = 1;
  /// A multiprocessor must have registers for so many blocks: enough for as many bytes under way as
  /// keep its memory busy.
  static constexpr int at_once = 3;

  /// The extents have long planes, or no element.
  constexpr Planes(const Extents& extents, Purpose purpose)
      : extents_(extents),
        // A plane that is not made of whole vectors begins and ends somewhere in one.
        vectors_((extents.plane + (extents.plane % kVector == 0 ? 0 : 2 * kVector - 2)) / kVector) {
    constexpr std::int64_t unit = grain * block_threads;
    const std::int64_t wanted =
        divide_up(vectors(), divide_up(wanted_blocks(purpose), extents.channels));
    chunk_ = divide_up(std::clamp(wanted, fewest_vectors(purpose) * block_threads,
                                  most_vectors(purpose) * block_threads),
                       unit) *
             unit;
    if (constexpr std::int64_t most = channels::addable / kVector * block_threads;
        purpose == Purpose::tallies && chunk_ > most) {
      chunk_ = most;
    }
    parts_ = divide_up(vectors(), chunk_);
    row_ = extents.channels * extents.plane;
    if (vectors_ > 0) {
      stride_rows_ = block_threads / vectors_;
      stride_vectors_ = block_threads % vectors_;
      stride_ = stride_rows_ * row_ + stride_vectors_ * kVector;
    }
  }

  constexpr std::int64_t blocks() const { return extents_.channels * parts_; }
  constexpr std::int64_t parts() const { return parts_; }
  SYNCBN_HOST_DEVICE std::int64_t channels() const { return extents_.channels; }
  SYNCBN_HOST_DEVICE std::int64_t part(std::int64_t block) const {
    return quotient(block, extents_.channels);
  }
  /// Returns the channel of the i-th element of a thread's vectors.
  SYNCBN_HOST_DEVICE std::int64_t channel(std::int64_t block, int, int) const {
    return remainder(block, extents_.channels);
  }
  /// Returns whether all whole steps begin at multiples of kVector elements.
  constexpr bool even() const { return true; }

  /// Steps go through a thread's vectors, one behind the other.
  class Steps {
   public:
    static constexpr int vector = kVector;

    SYNCBN_HOST_DEVICE Steps(const Planes& planes, std::int64_t block, int thread)
        : planes_(planes) {
      const Extents& extents = planes.extents_;
      const std::int64_t first = planes.part(block) * planes.chunk_;
      const std::int64_t rest = planes.vectors() - first;
      const std::int64_t count = rest < planes.chunk_ ? rest : planes.chunk_;
      left_ = static_cast<int>((count - thread + block_threads - 1) / block_threads);
      row_ = (first + thread) / planes.vectors_;
      vector_ = (first + thread) % planes.vectors_;
      index_ = (row_ * extents.channels + planes.channel(block, 0, 0)) * extents.plane +
               vector_ * kVector;
    }

    SYNCBN_HOST_DEVICE bool any() const { return left_ > 0; }

    SYNCBN_HOST_DEVICE int left() const { return left_; }

    /// Returns whether it is known beforehand that all steps are whole.
    SYNCBN_HOST_DEVICE bool all_whole() const { return !planes_.cut(); }

    /// Returns the next step, which there is, and which is whole.
    SYNCBN_HOST_DEVICE Step<kVector> next_whole() {
      const Step<kVector> step{index_, 0, 0, kVector};
      advance();
      return step;
    }

    /// Returns the next step, whole or not; behind the last one, a step of no element.
    SYNCBN_HOST_DEVICE Step<kVector> next() {
      if (left_ <= 0) {
        return {0, 0, 0, 0};
      }
      // A plane's first vector begins before the plane, unless that begins at a multiple of
      // kVector.
      const std::int64_t plane = planes_.extents_.plane;
      const std::int64_t ahead = (index_ - vector_ * kVector) & (kVector - 1);
      const std::int64_t from = vector_ * kVector - ahead;
      const std::int64_t behind = plane - from;
      const Step<kVector> step{index_ - ahead, row_ * plane + from,
                               from < 0 ? static_cast<int>(-from) : 0,
                               behind < kVector ? static_cast<int>(behind) : kVector};
      advance();
      return step;
    }

    /// Returns the index of the weight of a step's i-th element.
    SYNCBN_HOST_DEVICE std::int64_t weight_place(const Step<kVector>& step, int i) const {
      return step.position + i;
    }

   private:
    SYNCBN_HOST_DEVICE void advance() {
      --left_;
      row_ += planes_.stride_rows_;
      vector_ += planes_.stride_vectors_;
      index_ += planes_.stride_;
      if (vector_ >= planes_.vectors_) {
        vector_ -= planes_.vectors_;
        index_ += planes_.row_ - planes_.vectors_ * kVector;
        ++row_;
      }
    }

    const Planes& planes_;
    int left_;
    std::int64_t row_;
    std::int64_t vector_;  ///< in its plane
    std::int64_t index_;   ///< of the plane's first element, plus vector_ * kVector
  };
  SYNCBN_HOST_DEVICE Steps steps(std::int64_t block, int thread) const {
    return {*this, block, thread};
  }

 private:
  /// Returns the number of a channel's vectors.
  SYNCBN_HOST_DEVICE constexpr std::int64_t vectors() const { return extents_.rows * vectors_; }
  /// Returns whether planes are not made of whole vectors.
  SYNCBN_HOST_DEVICE bool cut() const { return extents_.plane % kVector != 0; }

  Extents extents_;
  std::int64_t vectors_;             ///< vectors of a plane
  std::int64_t chunk_ = 1;           ///< vectors of a block
  std::int64_t parts_ = 0;           ///< blocks of a channel
  std::int64_t row_ = 0;             ///< elements of a row
  std::int64_t stride_rows_ = 0;     ///< planes from a thread's vector to its next,
  std::int64_t stride_vectors_ = 0;  ///< vectors to go beyond these planes,
  std::int64_t stride_ = 0;          ///< and both in elements
};

template <int kVector>
class Columns {
 public:
  static constexpr int vector = kVector;
  static constexpr int sets = kVector;  ///< one for each column of a thread's vectors
  static constexpr int at_once = 2;
  static constexpr int wide = 64;                       ///< vectors of a tile, if there are as many
  static constexpr int most_channels = wide * kVector;  ///< of a tile

  /// The extents have no long planes, or no element.
  constexpr Columns(const Extents& extents, Purpose purpose) : extents_(extents) {
    if (extents.rows * extents.plane == 0) {
      return;
    }
    const auto plane = static_cast<int>(extents.plane);
    // Tiles of a multiple of so many channels begin with a vector.
    const std::int64_t unit = kVector / std::gcd(kVector, plane);
    const std::int64_t fit = wide * kVector / plane / unit * unit;
    const std::int64_t most = fit > unit ? fit : unit;
    tiles_ = divide_up(extents.channels, most);
    tile_ = static_cast<int>(divide_up(divide_up(extents.channels, tiles_), unit) * unit);
    tiles_ = divide_up(extents.channels, tile_);
    if (tile_ > extents.channels) {
      tile_ = static_cast<int>(extents.channels);
    }
    lanes_ = (tile_ * plane + kVector - 1) / kVector;
    groups_ = block_threads / lanes_;
    const std::int64_t wanted = divide_up(extents.rows, divide_up(wanted_blocks(purpose), tiles_));
    chunk_ = divide_up(std::clamp(wanted, fewest_vectors(purpose) * groups_,
                                  most_vectors(purpose) * groups_),
                       grain * groups_) *
             grain * groups_;
    if (purpose == Purpose::tallies && chunk_ > channels::addable * groups_) {
      chunk_ = channels::addable * groups_;
    }
    parts_ = divide_up(extents.rows, chunk_);
    stride_ = groups_ * width();
  }

  constexpr std::int64_t blocks() const { return tiles_ * parts_; }
  constexpr std::int64_t parts() const { return parts_; }
  SYNCBN_HOST_DEVICE std::int64_t channels() const { return extents_.channels; }
  SYNCBN_HOST_DEVICE std::int64_t part(std::int64_t block) const { return quotient(block, tiles_); }
  SYNCBN_HOST_DEVICE std::int64_t first_channel(std::int64_t block) const {
    return remainder(block, tiles_) * tile_;
  }
  SYNCBN_HOST_DEVICE int tile_channels(std::int64_t block) const {
    const std::int64_t rest = extents_.channels - first_channel(block);
    return rest < tile_ ? static_cast<int>(rest) : tile_;
  }
  SYNCBN_HOST_DEVICE std::int64_t channel(std::int64_t block, int thread, int i) const {
    const std::int64_t c = first_channel(block) + channel_of_tile(thread, i);
    return c < extents_.channels ? c : extents_.channels - 1;  // has no element there
  }
  /// Returns which of its tile's channels that is; behind the last one if it has no element.
  SYNCBN_HOST_DEVICE int channel_of_tile(int thread, int i) const {
    const int column = thread % lanes_ * kVector + i;
    return plane() == 1 ? column : column / plane();
  }
  constexpr bool even() const { return width() % kVector == 0; }

  SYNCBN_HOST_DEVICE int plane() const { return static_cast<int>(extents_.plane); }
  /// Returns the number of threads side by side, each with a vector of columns of the tile.
  SYNCBN_HOST_DEVICE int lanes() const { return lanes_; }
  /// Returns the number of such rows of threads; threads left over do nothing.
  SYNCBN_HOST_DEVICE int groups() const { return groups_; }

  class Steps {
   public:
    static constexpr int vector = kVector;

    SYNCBN_HOST_DEVICE Steps(const Columns& columns, std::int64_t block, int thread)
        : columns_(columns) {
      const int group = thread / columns.lanes_;
      const int column = thread % columns.lanes_ * kVector;
      const int behind = columns.tile_channels(block) * columns.plane() - column;
      row_ = columns.part(block) * columns.chunk_ + group;
      const std::int64_t part_end = row_ - group + columns.chunk_;
      const std::int64_t end = part_end < columns.extents_.rows ? part_end : columns.extents_.rows;
      const bool idle = group >= columns.groups_ || behind <= 0;
      left_ = idle ? 0 : static_cast<int>((end - row_ + columns.groups_ - 1) / columns.groups_);
      index_ = row_ * columns.width() + columns.first_channel(block) * columns.plane() + column;
      start_ = column % columns.plane();
      hi_ = behind < kVector ? behind : kVector;
    }

    SYNCBN_HOST_DEVICE bool any() const { return left_ > 0; }

    SYNCBN_HOST_DEVICE int left() const { return left_; }

    SYNCBN_HOST_DEVICE bool all_whole() const { return hi_ == kVector; }

    SYNCBN_HOST_DEVICE Step<kVector> next_whole() {
      const Step<kVector> step{index_, 0, 0, kVector};
      advance();
      return step;
    }

    SYNCBN_HOST_DEVICE Step<kVector> next() {
      if (left_ <= 0) {
        return {0, 0, 0, 0};
      }
      const Step<kVector> step{index_, row_ * columns_.plane(), 0, hi_};
      advance();
      return step;
    }

    SYNCBN_HOST_DEVICE std::int64_t weight_place(const Step<kVector>& step, int i) const {
      return step.position + (start_ + i) % columns_.plane();
    }

   private:
    SYNCBN_HOST_DEVICE void advance() {
      --left_;
      row_ += columns_.groups_;
      index_ += columns_.stride_;
    }

    const Columns& columns_;
    int left_;
    std::int64_t row_;
    std::int64_t index_;
    int start_;  ///< where in its plane a vector's first element is
    int hi_;
  };
  SYNCBN_HOST_DEVICE Steps steps(std::int64_t block, int thread) const {
    return {*this, block, thread};
  }

 private:
  SYNCBN_HOST_DEVICE constexpr std::int64_t width() const {
    return extents_.channels * extents_.plane;
  }

  Extents extents_;
  std::int64_t tiles_ = 0;
  std::int64_t chunk_ = 1;   ///< rows of a block
  std::int64_t parts_ = 0;   ///< blocks of a tile
  std::int64_t stride_ = 0;  ///< elements from a thread's vector to its next
  int tile_ = 1;             ///< channels of a tile
  int lanes_ = 1;
  int groups_ = 1;
};

/// Calls body(walk) with the walk for these extents.
template <int kVector, class Body>
void visit_walk(const Extents& extents, Purpose purpose, Body body) {
  if (has_long_planes(extents)) {
    body(Planes<kVector>(extents, purpose));
  } else {
    body(Columns<kVector>(extents, purpose));
  }
}

}  // namespace syncbn::kernels::cuda
