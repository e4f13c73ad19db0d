// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two kernels take two sums per channel, of terms and of products: the blocks of SumParts sum parts
// of a tensor into memory, then AddParts adds up the parts. Where a channel is one part, SumParts
// writes its sums.
//
// Terms are of Lane<T>. For f64 they are added in double. Otherwise a thread adds short runs of
// them in float, and the runs in double. With Columns a run is at most 8 terms, one behind the
// other. With Planes it is at most 4 terms for each element of a vector, and these are added up in
// at most 3 more steps. So a term is rounded 11 times at most, counting its own computation (3
// times in forward sums with weights, 2 without), and a sum is off by no more than
// (11 * 2^-24 + n 2^-53) sum|terms|.
//
// Everything is added in an order that shape and type alone decide, so results have the same bits
// on every device and in every run.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/host_device.hpp"

#include "kernels/cuda/channel_coefficients.hpp"
#include "kernels/cuda/elements.hpp"
#include "kernels/cuda/walk.hpp"

namespace syncbn::kernels::cuda {

struct alignas(16) SumPair {
  double first;
  double second;

  SYNCBN_HOST_DEVICE SumPair& operator+=(const SumPair& other) {
    first += other.first;
    second += other.second;
    return *this;
  }
};

/// A RunningSums holds a thread's sums: one pair for the one channel of its vectors (kSets 1), or
/// one for each column of them. Short runs are added in registers. The sums of runs are at sums[0],
/// sums[block_threads] and so on, which no other thread uses meanwhile.
template <class T, int kSets, int kBatch>
class RunningSums {
 public:
  using F = Lane<T>;
  static constexpr int batches_in_a_run = (kSets == 1 ? 4 : 8) / kBatch;

  SYNCBN_HOST_DEVICE explicit RunningSums(SumPair* sums) : sums_(sums) {
    SYNCBN_UNROLL
    for (int i = 0; i < kSets; ++i) {
      sums_[i * block_threads] = {0, 0};
    }
  }

  /// Adds `first` and q * r to the two sums of a vector's i-th element.
  SYNCBN_HOST_DEVICE void add(int i, F first, F q, F r) {
    run_first_[i] += first;
    run_second_[i] = std::fma(q, r, run_second_[i]);
  }

  SYNCBN_HOST_DEVICE void end_batch() {
    if (++batches_ == batches_in_a_run) {
      end_run();
    }
  }

  SYNCBN_HOST_DEVICE void end_run() {
    batches_ = 0;
    if constexpr (kSets == 1) {
      SYNCBN_UNROLL
      for (int half = vector_size<T> / 2; half > 0; half /= 2) {
        SYNCBN_UNROLL
        for (int i = 0; i < half; ++i) {
          run_first_[i] += run_first_[i + half];
          run_second_[i] += run_second_[i + half];
        }
      }
    }
    SYNCBN_UNROLL
    for (int i = 0; i < kSets; ++i) {
      sums_[i * block_threads] +=
          {static_cast<double>(run_first_[i]), static_cast<double>(run_second_[i])};
    }
    SYNCBN_UNROLL
    for (int i = 0; i < vector_size<T>; ++i) {
      run_first_[i] = run_second_[i] = 0;
    }
  }

 private:
  SumPair* sums_;
  F run_first_[vector_size<T>] = {};
  F run_second_[vector_size<T>] = {};
  int batches_ = 0;
};

/// Adds all rows of sums[block_threads / width][width] to the first row, as a tree.
template <class Block>
SYNCBN_HOST_DEVICE void add_rows(const Block& block, SumPair* sums, int width) {
  for (int half = block_threads / 2; half >= width; half /= 2) {
    block.every_thread([&](int thread) {
      if (thread < half) {
        sums[thread] += sums[thread + half];
      }
    });
  }
}

/// SumTerms add the terms of a vector's i-th element to sums. Their batch is 2 or 4.
template <class T>
concept SumTerms = VectorReader<T> &&
    requires(const T& terms, const Loaded<T>& loaded, const typename T::Coefficients& k,
             RunningSums<typename T::Element, 1, T::batch>& sums) {
  requires T::batch == 2 || T::batch == 4;
  terms.add(loaded, 0, k, AllThere{}, sums);
};

/// This kernel sums each block's part of its channels.
template <SumTerms Terms, TensorWalk Walk>
struct SumParts {
  static constexpr int threads = block_threads;
  static constexpr int at_once = std::min(Terms::at_once, Walk::at_once);
  static constexpr int sets = Walk::sets;
  struct Shared {
    ChannelCoefficients<Terms, Walk> coefficients;
    SumPair sums[block_threads * sets];
  };

  Terms terms;
  Walk walk;
  const float* weight;
  bool aligned;
  SumPair* parts;    ///< [parts, C]
  double* sums;      ///< null, or [2C + 1] written instead: there is one part
  double positions;  ///< the count, for `sums`

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    shared.coefficients.prepare(block, terms, walk);
    block.every_thread([&](int thread) { sum_of_thread(block.index(), thread, shared); });
    if constexpr (sets == 1) {
      add_rows(block, shared.sums, 1);
      block.every_thread([&](int thread) {
        if (thread == 0) {
          write(block.index(), walk.channel(block.index(), 0, 0), shared.sums[0]);
        }
      });
    } else {
      add_columns(block, shared);
    }
  }

 private:
  static constexpr int vector = Walk::vector;

  SYNCBN_HOST_DEVICE static int place(int thread, int i) { return i * block_threads + thread; }

  /// Writes a channel's sums, those of the block's part.
  SYNCBN_HOST_DEVICE void write(std::int64_t block, std::int64_t c, const SumPair& sum) const {
    if (sums == nullptr) {
      parts[walk.part(block) * walk.channels() + c] = sum;
      return;
    }
    sums[c] = sum.first;
    sums[walk.channels() + c] = sum.second;
    if (c == 0) {
      sums[2 * walk.channels()] = positions;
    }
  }

  SYNCBN_HOST_DEVICE void sum_of_thread(std::int64_t block, int thread, Shared& shared) const {
    typename Terms::Coefficients k[sets];
    shared.coefficients.get(terms, walk, block, thread, k);
    RunningSums<typename Terms::Element, sets, Terms::batch> running(&shared.sums[thread]);
    for_each_vector<Terms::batch>(
        walk, block, thread, aligned, weight,
        [&](const auto& step, const auto& there) { return terms.load(step, aligned, there); },
        [&](const auto&, const auto& loaded, const auto& there) {
          SYNCBN_UNROLL
          for (int i = 0; i < vector; ++i) {
            terms.add(loaded, i, k[sets == 1 ? 0 : i], there, running);
          }
        },
        [&] { running.end_batch(); });
    running.end_run();
  }

  /// At most so many threads add up one channel's columns, so that none has many sums to add.
  static constexpr int most_strands = 16;

  /// Returns the sum of column j of the tile.
  SYNCBN_HOST_DEVICE SumPair& column(Shared& shared, int j) const {
    return shared.sums[place(j / vector, j % vector)];
  }

  /// Adds the sums of all groups of threads to the first group's, as a tree.
  template <class Block>
  SYNCBN_HOST_DEVICE void add_groups(const Block& block, Shared& shared) const {
    int kept = 0;
    for (int groups = walk.groups(); groups > 1; groups = kept) {
      kept = (groups + 1) / 2;
      block.every_thread([&](int thread) {
        const int other = thread + kept * walk.lanes();
        if (other < groups * walk.lanes()) {
          SYNCBN_UNROLL
          for (int i = 0; i < sets; ++i) {
            shared.sums[place(thread, i)] += shared.sums[place(other, i)];
          }
        }
      });
    }
  }

  /// Adds up the groups' sums of each column, then those of each channel's columns, and writes the
  /// block's part.
  template <class Block>
  SYNCBN_HOST_DEVICE void add_columns(const Block& block, Shared& shared) const {
    const int plane = walk.plane();
    const int channels = walk.tile_channels(block.index());
    add_groups(block, shared);
    const int strands = plane < most_strands ? plane : most_strands;
    if (strands < plane) {
      block.every_thread([&](int thread) {
        for (int k = thread; k < channels * strands; k += block_threads) {
          const int first = k / strands * plane + k % strands;
          const int end = k / strands * plane + plane;
          SumPair& sum = column(shared, first);
          for (int j = first + strands; j < end; j += strands) {
            sum += column(shared, j);
          }
        }
      });
    }
    block.every_thread([&](int thread) {
      for (int c = thread; c < channels; c += block_threads) {
        SumPair sum = column(shared, c * plane);
        for (int strand = 1; strand < strands; ++strand) {
          sum += column(shared, c * plane + strand);
        }
        write(block.index(), walk.first_channel(block.index()) + c, sum);
      }
    });
  }
};

/// This kernel sums each block's part of the weights.
struct SumWeights {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 2;
  static constexpr std::int64_t most_parts = block_threads;
  struct Shared {
    SumPair sums[block_threads];
  };

  const float* weight;
  std::int64_t size;
  double* parts;  ///< [blocks()]

  constexpr std::int64_t chunk() const {
    constexpr std::int64_t unit = 8 * block_threads;
    return divide_up(divide_up(size, most_parts), unit) * unit;
  }
  constexpr std::int64_t blocks() const { return size == 0 ? 0 : divide_up(size, chunk()); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    block.every_thread([&](int thread) {
      const std::int64_t begin = block.index() * chunk();
      const std::int64_t end = begin + chunk() < size ? begin + chunk() : size;
      double sum = 0;
      for (std::int64_t i = begin + thread; i < end; i += block_threads) {
        sum += static_cast<double>(weight[i]);
      }
      shared.sums[thread] = {sum, 0};
    });
    add_rows(block, shared.sums, 1);
    block.every_thread([&](int thread) {
      if (thread == 0) {
        parts[block.index()] = shared.sums[0].first;
      }
    });
  }
};

/// This kernel adds up the parts: sums = {first [C], second [C], count}.
struct AddParts {
  static constexpr int threads = block_threads;
  static constexpr int at_once = 2;
  static constexpr int side_by_side = 4;  ///< channels of a block: a cache line holds as many
  static constexpr int strands = block_threads / side_by_side;
  struct Shared {
    SumPair sums[block_threads];
  };

  const SumPair* parts;  ///< [count_of_parts, C]
  std::int64_t count_of_parts;
  std::int64_t channels;
  const double* weight_parts;  ///< [count_of_weight_parts], or null: the count is `positions`
  int count_of_weight_parts;
  double positions;
  double* sums;  ///< [2C + 1] written

  constexpr std::int64_t blocks() const { return divide_up(channels, side_by_side); }

  template <class Block>
  SYNCBN_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t first = block.index() * side_by_side;
    block.every_thread([&](int thread) {
      const std::int64_t c = first + thread % side_by_side;
      SumPair sum{};
      if (c < channels) {
        for (std::int64_t part = thread / side_by_side; part < count_of_parts; part += strands) {
          sum += parts[part * channels + c];
        }
      }
      shared.sums[thread] = sum;
    });
    add_rows(block, shared.sums, side_by_side);
    block.every_thread([&](int thread) {
      const std::int64_t c = first + thread;
      if (thread < side_by_side && c < channels) {
        sums[c] = shared.sums[thread].first;
        sums[channels + c] = shared.sums[thread].second;
      }
    });
    if (block.index() == 0) {
      add_weights(block, shared);
    }
  }

 private:
  template <class Block>
  SYNCBN_HOST_DEVICE void add_weights(const Block& block, Shared& shared) const {
    block.every_thread([&](int thread) {
      shared.sums[thread] = {thread < count_of_weight_parts ? weight_parts[thread] : 0, 0};
    });
    add_rows(block, shared.sums, 1);
    block.every_thread([&](int thread) {
      if (thread == 0) {
        sums[2 * channels] = weight_parts == nullptr ? positions : shared.sums[0].first;
      }
    });
  }
};

/// Returns whether there is nothing to add up: SumParts writes the sums.
inline bool is_one_part(const AddParts& of) {
  return of.count_of_parts == 1 && of.weight_parts == nullptr;
}

/// Returns the bytes that the parts need.
constexpr std::size_t bytes_of_parts(std::int64_t parts, std::int64_t channels) {
  return static_cast<std::size_t>(SumWeights::most_parts) * sizeof(double) +
         static_cast<std::size_t>(parts * channels) * sizeof(SumPair);
}

/// Sums `terms` over x with kernels that it starts by launch(blocks, kernel, what we are doing).
/// `workspace` has bytes_of_parts and is aligned to 16 bytes.
template <SumTerms Terms, class Launcher>
void sum_channels(const ConstTensorView& x, const Terms& terms, const float* weight, bool aligned,
                  double* sums, void* workspace, const Launcher& launch) {
  const Shape& shape = x.shape();
  auto* weight_parts = static_cast<double*>(workspace);
  auto* parts = reinterpret_cast<SumPair*>(weight_parts + SumWeights::most_parts);
  AddParts all{.parts = parts,
               .count_of_parts = 0,
               .channels = shape.c,
               .weight_parts = weight == nullptr ? nullptr : weight_parts,
               .count_of_weight_parts = 0,
               .positions = static_cast<double>(shape.per_channel()),
               .sums = sums};
  if (weight != nullptr && shape.per_channel() != 0) {
    const SumWeights body{weight, shape.per_channel(), weight_parts};
    all.count_of_weight_parts = static_cast<int>(body.blocks());
    launch(body.blocks(), body, "summing weights");
  }
  if (shape.size() != 0) {
    visit_walk<vector_size<typename Terms::Element>>(
        extents_of(shape, x.layout()), Purpose::sums, [&]<class Walk>(const Walk& walk) {
          all.count_of_parts = walk.parts();
          launch(walk.blocks(),
                 SumParts<Terms, Walk>{.terms = terms,
                                       .walk = walk,
                                       .weight = weight,
                                       .aligned = aligned && walk.even(),
                                       .parts = parts,
                                       .sums = is_one_part(all) ? sums : nullptr,
                                       .positions = all.positions},
                 "summing channels");
        });
  }
  if (!is_one_part(all)) {
    launch(all.blocks(), all, "adding up sums of channels");
  }
}

}  // namespace syncbn::kernels::cuda
