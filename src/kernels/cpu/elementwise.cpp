// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/elementwise.hpp"

#include <algorithm>
#include <optional>

#include <hwy/cache_control.h>

#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/run_blocks.hpp"
#include "kernels/cpu/weights.hpp"

namespace syncbn::kernels::cpu {
namespace {

/// Says how blocks are written to memory.
struct Writing {
  bool direct;  ///< without stages (stage.hpp)
  bool stream;  ///< past the cache
};

/// Makes what was written past the cache visible to other threads.
void flush(const Writing& writing) {
  if (writing.stream) {
    hwy::FlushStream();
  }
}

Destinations advanced(const ElementwiseKernel& kernel, Destinations to, std::int64_t elements) {
  for (std::byte*& each : to) {
    each += each == nullptr ? 0 : elements * static_cast<std::int64_t>(kernel.element);
  }
  return to;
}

/// Tells whether vectors can be written past the cache from this index on.
bool is_aligned(const ElementwiseKernel& kernel, std::int64_t first_index) {
  const Destinations to = advanced(kernel, kernel.out, first_index);
  return std::all_of(to.begin(), to.end(), [&](const std::byte* each) {
    return reinterpret_cast<std::uintptr_t>(each) % kernel.lines.line == 0;
  });
}

/// Holds a stage for each destination. Counts are in elements.
class Stages {
 public:
  Stages(const ElementwiseKernel& kernel, bool stream)
      : kernel_(kernel), first_(kernel.lines, stream) {
    if (kernel.out[1] != nullptr) {
      second_.emplace(kernel.lines, stream);
    }
  }

  void go_to(const Destinations& to) {
    first_.go_to(to[0]);
    if (second_) {
      second_->go_to(to[1]);
    }
  }

  /// Returns where the next elements go, if possible with room for `wanted`.
  Destinations place(std::int64_t wanted) {
    const auto bytes = static_cast<std::size_t>(wanted) * kernel_.element;
    return {first_.place(bytes), second_ ? second_->place(bytes) : nullptr};
  }
  /// Returns how many elements there is room for.
  std::int64_t room() const {
    const std::size_t room = second_ ? std::min(first_.room(), second_->room()) : first_.room();
    return static_cast<std::int64_t>(room / kernel_.element);
  }

  void put(std::int64_t count) {
    const auto bytes = static_cast<std::size_t>(count) * kernel_.element;
    first_.put(bytes);
    if (second_) {
      second_->put(bytes);
    }
  }

  void finish() {
    first_.finish();
    if (second_) {
      second_->finish();
    }
  }

 private:
  const ElementwiseKernel& kernel_;
  Stage first_;
  std::optional<Stage> second_;
};

class ElementsByPlanes {
 public:
  ElementsByPlanes(const ElementwiseKernel& kernel, const Planes& planes, bool stream,
                   const Coefficients& coefficients)
      : kernel_(kernel), planes_(planes), coefficients_(coefficients) {
    const std::int64_t plane = planes.extents().plane;
    const bool whole_steps = plane % kernel.order.step == 0;
    const bool long_planes = plane >= 32 * kernel.order.step;  // few ends, so they cost little
    const bool apart = !kernel.in_place;
    writing_.stream = stream;
    writing_.direct =
        stream ? whole_steps && is_aligned(kernel, 0) : whole_steps || long_planes || apart;
    // If a tensor is written in place, what is behind a plane has yet to be read, and steps may go
    // beyond the plane's end only in a stage.
    over_ = apart || !writing_.direct;
  }

  void operator()(const Planes::Block& block) const {
    if (writing_.direct) {
      for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
        kernel_.planes(kernel_.kernel, first_plane(block, row), block.channels.size(), over_,
                       coefficients_, block.channels.begin - planes_.channels().begin);
      }
    } else {
      Stages stages(kernel_, writing_.stream);
      for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
        write_staged(first_plane(block, row), block.channels, stages);
      }
      stages.finish();
    }
    flush(writing_);
  }

 private:
  ElementRun first_plane(const Planes::Block& block, std::int64_t row) const {
    const std::int64_t i = planes_.index(row, block.channels.begin, block.plane.begin);
    return {i,
            advanced(kernel_, kernel_.out, i),
            block.plane.size(),
            0,
            writing_.stream,
            kernel_.prefetch_distance,
            kernel_.weight == nullptr
                ? nullptr
                : kernel_.weight + row * planes_.extents().plane + block.plane.begin};
  }

  // Writes as many planes at a time as there is room for, or pieces of one.
  void write_staged(ElementRun of, const Range& channels, Stages& stages) const {
    stages.go_to(of.to);
    of.stream = false;
    const std::int64_t plane = of.size;
    const std::int64_t all = channels.size() * plane;
    const std::int64_t first = of.i;
    const float* weights = of.weights;
    for (std::int64_t done = 0; done < all; done = of.i - first) {
      const std::int64_t begin = done % plane;
      of.to = stages.place(plane - begin);
      const std::int64_t room = stages.room();
      std::int64_t planes = 1;
      if (begin == 0 && room >= plane) {
        planes = std::min((all - done) / plane, room / plane);
        of.size = plane;
      } else {
        of.size = std::min(plane - begin, room / kernel_.order.step * kernel_.order.step);
      }
      of.behind = all - done - planes * of.size;
      of.weights = weights == nullptr ? nullptr : weights + begin;
      kernel_.planes(kernel_.kernel, of, planes, over_, coefficients_,
                     channels.begin - planes_.channels().begin + done / plane);
      stages.put(planes * of.size);
      of.i += planes * of.size;
    }
  }

  const ElementwiseKernel& kernel_;
  const Planes& planes_;
  const Coefficients& coefficients_;
  Writing writing_;
  bool over_;  ///< a plane's last step may go beyond its end if there is more behind it
};

class ElementsByColumns {
 public:
  ElementsByColumns(const ElementwiseKernel& kernel, const Columns& columns, bool stream,
                    const Coefficients& table)
      : kernel_(kernel), columns_(columns), table_(table) {
    const bool whole_steps = columns.stride() % kernel.order.step == 0;
    writing_.stream = stream;
    writing_.direct = !stream || (whole_steps && is_aligned(kernel, columns.index(0, 0)));
  }

  void operator()(const Columns::Block& block) const {
    Stages stages(kernel_, writing_.stream);
    const std::int64_t full_rows = std::min(block.rows.end, columns_.full_rows());
    for (std::int64_t row = block.rows.begin; row < full_rows; ++row) {
      write_row(row, block.columns, stages);
    }
    if (full_rows < block.rows.end) {
      write_row(full_rows, {block.columns.begin, std::min(block.columns.end, columns_.rest())},
                stages);
    }
    stages.finish();
    flush(writing_);
  }

 private:
  void write_row(std::int64_t row, const Range& range, Stages& stages) const {
    if (range.size() <= 0) {
      return;
    }
    // What is read next follows the row in memory or, where a row is only part of the matrix's,
    // lies some rows below.
    const std::int64_t distance =
        range.size() == columns_.stride()
            ? kernel_.prefetch_distance
            : (kernel_.prefetch_distance / range.size() + 1) * columns_.stride();
    for_weighted_pieces(
        columns_, kernel_.weight, row, range, [&](const Range& piece, const float* weights) {
          const std::int64_t i = columns_.index(row, piece.begin);
          const ElementRun of{
              i,      advanced(kernel_, kernel_.out, i), piece.size(), 0, writing_.stream, distance,
              weights};
          if (writing_.direct) {
            kernel_.columns(kernel_.kernel, of, table_, piece.begin);
          } else {
            write_staged(of, piece.begin, stages);
          }
        });
  }

  void write_staged(ElementRun of, std::int64_t column, Stages& stages) const {
    stages.go_to(of.to);
    of.stream = false;
    for (std::int64_t left = of.size; left > 0; left -= of.size) {
      of.to = stages.place(left);
      of.size = std::min(left, stages.room() / kernel_.order.step * kernel_.order.step);
      kernel_.columns(kernel_.kernel, of, table_, column);
      stages.put(of.size);
      of.i += of.size;
      column += of.size;
      of.weights += of.weights == nullptr ? 0 : of.size;
    }
  }

  const ElementwiseKernel& kernel_;
  const Columns& columns_;
  const Coefficients& table_;
  Writing writing_;
};

}  // namespace

void for_each_element(const ConstTensorView& x, const ChannelRange& channels,
                      const ElementwiseKernel& kernel, const Coefficients& coefficients,
                      const Run& run) {
  const Extents extents = extents_of(x.shape(), x.layout());
  if (extents.size() == 0) {
    return;
  }
  if (has_long_planes(extents)) {
    const Planes planes(extents, channels, Purpose::elements);
    run_blocks(planes, Order::backward, ElementsByPlanes(kernel, planes, run.stream, coefficients));
  } else {
    const Columns columns(extents, channels, Purpose::elements);
    const Coefficients table = by_columns(coefficients, columns, kernel.order, run.scratch);
    run_blocks(columns, Order::backward, ElementsByColumns(kernel, columns, run.stream, table));
  }
}

}  // namespace syncbn::kernels::cpu
