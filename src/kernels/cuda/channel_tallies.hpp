// SPDX-License-Identifier: Apache-2.0
#pragma once

// Blocks tally the channels of a tensor: each takes a part of it, and adds what it found to words
// in memory that all share.

#include <cstdint>
#include <type_traits>

#include "core/host_device.hpp"

#include "kernels/cuda/atomics.hpp"
#include "kernels/cuda/elements.hpp"
#include "kernels/cuda/exact.hpp"
#include "kernels/cuda/tallies.hpp"
#include "kernels/cuda/walk.hpp"

namespace syncbn::kernels::cuda {

/// TallyTerms call tally(p, q, r) for a vector's i-th element if it is there: the terms of the two
/// sums are p and q * r.
template <class T>
concept TallyTerms = VectorReader<T> &&
    requires(const T& terms, const Loaded<T>& loaded, const typename T::Coefficients& k,
             void (*tally)(double p, double q, double r)) {
  terms.add(loaded, 0, k, AllThere{}, tally);
};

/// This kernel tallies the terms of the wanted channels.
template <ThreadTally Tally, TallyTerms Terms, TensorWalk Walk>
struct TallyChannels {
  static constexpr int threads = block_threads;
  static constexpr int sets = Walk::sets;
  static constexpr int at_once = sets <= 4 ? 2 : 1;  ///< as registers allow
  using Mark = typename Tally::Mark;

  struct Shared {
    std::uint64_t sums[Tally::fields][block_threads * sets];  ///< or maxima, of threads' sets
    Mark marks[block_threads * sets];
    channels::Integer strands[block_threads];
    std::uint64_t any;  ///< not 0 if a channel is wanted
  };

  Terms terms;
  Walk walk;
  const float* weight;
  bool aligned;
  channels::ExactChannels of;
  std::uint64_t* words;  ///< [words, C]

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    block.every_thread([&](int thread) {
      if (thread == 0) {
        shared.any = 0;
      }
    });
    block.every_thread([&](int thread) {
      for (int c = thread; c < channels(block); c += block_threads) {
        if (of.wanted[first_channel(block) + c] != 0) {
          set_bits(&shared.any, 1);  // other threads do so, too
        }
      }
    });
    if (shared.any == 0) {
      return;
    }
    block.every_thread([&](int thread) { tally_of_thread(block.index(), thread, shared); });
    SYNCBN_UNROLL
    for (int field = 0; field < Tally::fields; ++field) {
      const std::uint64_t* sums = shared.sums[field];
      if constexpr (Tally::maxima) {
        merge(
            block, shared, [&](channels::Integer& to, int i) { raise(to, sums[i]); },
            [](channels::Integer& to, const channels::Integer& other) {
              raise(to, static_cast<std::uint64_t>(other.low));
            },
            [&](std::int64_t c, const channels::Integer& total) {
              raise_to(word(field, c), static_cast<std::uint64_t>(total.low));
            });
      } else {
        merge(
            block, shared,
            [&](channels::Integer& to, int i) { to.add(static_cast<std::int64_t>(sums[i])); },
            [](channels::Integer& to, const channels::Integer& other) {
              to.high += other.high;
              to.low += other.low;
            },
            [&](std::int64_t c, const channels::Integer& total) {
              add_to(word(2 * field, c), static_cast<std::uint64_t>(total.high));
              add_to(word(2 * field + 1, c), static_cast<std::uint64_t>(total.low));
            });
      }
    }
    merge_marks(block, shared);
  }

 private:
  static constexpr int vector = Walk::vector;

  SYNCBN_HOST_DEVICE static void raise(channels::Integer& to, std::uint64_t value) {
    if (static_cast<std::uint64_t>(to.low) < value) {
      to.low = static_cast<std::int64_t>(value);
    }
  }
  SYNCBN_HOST_DEVICE std::uint64_t* word(int k, std::int64_t c) const {
    return words + k * of.channels + c;
  }
  template <class Block>
  SYNCBN_HOST_DEVICE int channels(const Block& block) const {
    if constexpr (sets == 1) {
      return 1;
    } else {
      return walk.tile_channels(block.index());
    }
  }
  template <class Block>
  SYNCBN_HOST_DEVICE std::int64_t first_channel(const Block& block) const {
    if constexpr (sets == 1) {
      return walk.channel(block.index(), 0, 0);
    } else {
      return walk.first_channel(block.index());
    }
  }
  /// Returns how many of the threads' sets are one channel's.
  SYNCBN_HOST_DEVICE int sets_of_channel() const {
    if constexpr (sets == 1) {
      return block_threads;
    } else {
      return walk.plane() * walk.groups();
    }
  }
  /// Returns where in `Shared` the k-th set of channel c is.
  SYNCBN_HOST_DEVICE int place(int c, int k) const {
    if constexpr (sets == 1) {
      return k;
    } else {
      const int column = c * walk.plane() + k % walk.plane();
      const int thread = k / walk.plane() * walk.lanes() + column / vector;
      return column % vector * block_threads + thread;
    }
  }

  SYNCBN_HOST_DEVICE void tally_of_thread(std::int64_t block, int thread, Shared& shared) const {
    typename Terms::Coefficients k[sets];
    Grids grids[sets];
    SYNCBN_UNROLL
    for (int i = 0; i < sets; ++i) {
      const std::int64_t c = walk.channel(block, thread, i);
      k[i] = terms.coefficients(c);
      grids[i] = Grids(of.first_window[c], of.second_window[c]);
    }
    Tally tally;
    for_each_vector<Terms::batch>(
        walk, block, thread, aligned, weight,
        [&](const auto& step, const auto& there) { return terms.load(step, aligned, there); },
        [&](const auto&, const auto& loaded, const auto& there) {
          SYNCBN_UNROLL
          for (int i = 0; i < vector; ++i) {
            const int set = sets == 1 ? 0 : i;
            terms.add(loaded, i, k[set], there,
                      [&](double p, double q, double r) { tally.add(set, grids[set], p, q, r); });
          }
        },
        [] {});
    SYNCBN_UNROLL
    for (int i = 0; i < sets; ++i) {
      SYNCBN_UNROLL
      for (int field = 0; field < Tally::fields; ++field) {
        shared.sums[field][i * block_threads + thread] = tally.sum(field, i);
      }
      shared.marks[i * block_threads + thread] = tally.mark(i);
    }
  }

  /// Returns how many threads go through the sets of one channel.
  template <class Block>
  SYNCBN_HOST_DEVICE int strands(const Block& block) const {
    constexpr int most = 16;
    const int fit = block_threads / channels(block);
    return fit < 1 ? 1 : fit < most ? fit : most;
  }

  /// Calls take(total, place) for every set of a channel, one strand of sets for each of several
  /// threads, then join(total, other) for the strands' totals, then put(c, total) if the channel is
  /// wanted. Totals begin with 0.
  template <class Block, class Take, class Join, class Put>
  SYNCBN_HOST_DEVICE void merge(const Block& block, Shared& shared, Take take, Join join,
                                Put put) const {
    const int count = channels(block);
    const int abreast = strands(block);
    const std::int64_t first = first_channel(block);
    block.every_thread([&](int thread) {
      for (int i = thread; i < count * abreast; i += block_threads) {
        channels::Integer total;
        for (int k = i % abreast; k < sets_of_channel(); k += abreast) {
          take(total, place(i / abreast, k));
        }
        if (abreast > 1) {
          shared.strands[i] = total;
        } else if (of.wanted[first + i] != 0) {
          put(first + i, total);
        }
      }
    });
    block.every_thread([&](int thread) {
      if (abreast > 1 && thread < count && of.wanted[first + thread] != 0) {
        channels::Integer total = shared.strands[thread * abreast];
        for (int strand = 1; strand < abreast; ++strand) {
          join(total, shared.strands[thread * abreast + strand]);
        }
        put(first + thread, total);
      }
    });
  }

  template <class Block>
  SYNCBN_HOST_DEVICE void merge_marks(const Block& block, Shared& shared) const {
    if constexpr (Tally::maxima) {
      const auto join = [](channels::Integer& to, std::int64_t bits) { to.low |= bits; };
      merge(
          block, shared, [&](channels::Integer& to, int i) { join(to, shared.marks[i]); },
          [&](channels::Integer& to, const channels::Integer& other) { join(to, other.low); },
          [&](std::int64_t c, const channels::Integer& total) {
            set_bits(word(channels::magnitude_words - 1, c), static_cast<std::uint64_t>(total.low));
          });
    } else {
      merge(
          block, shared, [&](channels::Integer& to, int i) { raise(to, shared.marks[i]); },
          [](channels::Integer& to, const channels::Integer& other) {
            raise(to, static_cast<std::uint64_t>(other.low));
          },
          [&](std::int64_t c, const channels::Integer& total) {
            raise_to(word(channels::tally_words - 1, c), widened(static_cast<Mark>(total.low)));
          });
    }
  }

  /// Returns the mark as bits of a double, or all ones as they are.
  SYNCBN_HOST_DEVICE static std::uint64_t widened(Mark mark) {
    if constexpr (std::is_same_v<Mark, std::uint64_t>) {
      return mark;
    } else {
      const auto value = static_cast<double>(std::bit_cast<float>(mark));
      return mark == ~Mark{0} ? ~std::uint64_t{0} : std::bit_cast<std::uint64_t>(value);
    }
  }
};

/// Tallies the terms of x with a kernel that it starts by launch(blocks, kernel, what we are
/// doing). TallyOf<sets> is the Tally.
template <template <int> class TallyOf, TallyTerms Terms, class Launcher>
void tally_channels(const ConstTensorView& x, const Terms& terms, const float* weight, bool aligned,
                    const channels::ExactChannels& of, std::uint64_t* words, const Launcher& launch,
                    const char* doing) {
  if (x.shape().size() == 0) {
    return;
  }
  visit_walk<vector_size<typename Terms::Element>>(
      extents_of(x.shape(), x.layout()), Purpose::tallies, [&]<class Walk>(const Walk& walk) {
        launch(walk.blocks(),
               TallyChannels<TallyOf<Walk::sets>, Terms, Walk>{terms, walk, weight,
                                                               aligned && walk.even(), of, words},
               doing);
      });
}

}  // namespace syncbn::kernels::cuda
