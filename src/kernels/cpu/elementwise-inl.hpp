// SPDX-License-Identifier: Apache-2.0

// Walks over a tensor for kernels that write an element for every element.

#if defined(SYNCBN_KERNELS_CPU_ELEMENTWISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#undef SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#else
#define SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "kernels/cpu/coefficients-inl.hpp"
#include "kernels/cpu/partition.hpp"
#include "kernels/cpu/run_blocks.hpp"
#include "kernels/cpu/stage-inl.hpp"
#include "kernels/cpu/weights-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

// A Kernel has:
//   Element                         the tensors' element type
//   Channel                         its Coefficients
//   weighted, weight                as for sums
//   outputs                         how many tensors it writes, 1 or 2
//   output(n) -> Element*           the n-th
//   in_place()                      whether one of them is also read
//   coefficients(c) -> Channel      those of channel c
//   (i, k, weights, extent, how, to...)
//                                   computes what there is of a step from index i on and writes it
//                                   at `to`, a place for each output
//   prefetch(i)                     of a step from index i on

template <class Kernel>
using StageOf = Stage<typename Kernel::Element>;

/// Whether every output begins where a vector can be written past the cache.
template <class Kernel>
bool outputs_are_aligned(const Kernel& kernel, std::int64_t first_index) {
  using T = typename Kernel::Element;
  const auto vector =
      static_cast<std::size_t>(step_of<T>()) * sizeof(T) / (sizeof(T) == sizeof(Lane<T>) ? 2 : 1);
  for (int n = 0; n < Kernel::outputs; ++n) {
    if (reinterpret_cast<std::uintptr_t>(kernel.output(n) + first_index) % vector != 0) {
      return false;
    }
  }
  return true;
}

/// A run of elements with coefficients k(s) for the step s elements from its beginning, written
/// straight to where they belong. `over`: a step's worth of elements behind the run is still to be
/// written, so its last step may go beyond its end.
template <class How, class Kernel, class Coefficients>
HWY_INLINE void run_directly(const Kernel& kernel, std::int64_t i, std::int64_t size,
                             std::int64_t distance, const float* weights, bool over, How how,
                             Coefficients k) {
  using T = typename Kernel::Element;
  const std::int64_t step = step_of<T>();
  T* first = kernel.output(0);
  T* second = kernel.output(Kernel::outputs - 1);
  const auto write = [&](std::int64_t s, auto extent) HWY_ATTR {
    kernel(i + s, k(s), weights + (Kernel::weighted ? s : 0), extent, how, first + i + s,
           second + i + s);
  };
  std::int64_t s = 0;
  for (; s + step <= size; s += step) {
    kernel.prefetch(i + s + distance);
    write(s, Whole{});
  }
  if (s < size) {
    if (over) {
      write(s, Over{size - s});
    } else {
      write(s, First{size - s});
    }
  }
}

/// The same by way of stages. `over`: a step's worth of elements behind the run can be read.
template <class Kernel, class Coefficients>
HWY_INLINE void run_staged(const Kernel& kernel, std::int64_t i, std::int64_t size,
                           std::int64_t distance, const float* weights, bool over,
                           StageOf<Kernel>& first, StageOf<Kernel>& second, Coefficients k) {
  using T = typename Kernel::Element;
  const std::int64_t step = step_of<T>();
  first.go_to(kernel.output(0) + i);
  if constexpr (Kernel::outputs == 2) {
    second.go_to(kernel.output(1) + i);
  }
  const auto put = [&](std::int64_t count) HWY_ATTR {
    first.put(count);
    if constexpr (Kernel::outputs == 2) {
      second.put(count);
    }
  };
  std::int64_t s = 0;
  while (s + step <= size) {
    const std::int64_t room =
        Kernel::outputs == 2 ? std::min(first.room(), second.room()) : first.room();
    const std::int64_t whole = std::min(size - s, room) / step * step;
    T* to = first.place();
    T* to_second = second.place();
    for (std::int64_t done = 0; done < whole; done += step, s += step) {
      kernel.prefetch(i + s + distance);
      first.prefetch(done);
      if constexpr (Kernel::outputs == 2) {
        second.prefetch(done);
      }
      kernel(i + s, k(s), weights + (Kernel::weighted ? s : 0), Whole{}, ThroughCache{}, to + done,
             to_second + done);
    }
    put(whole);
  }
  if (s < size) {
    const float* rest = weights + (Kernel::weighted ? s : 0);
    if (over) {
      kernel(i + s, k(s), rest, Over{size - s}, ThroughCache{}, first.place(), second.place());
    } else {
      kernel(i + s, k(s), rest, First{size - s}, ThroughCache{}, first.place(), second.place());
    }
    put(size - s);
  }
}

/// How the runs of a block reach memory.
struct Writing {
  bool direct;  ///< without a stage
  bool stream;  ///< past the cache
};

/// Calls for_runs with what writes one: a function of (i, size, distance, weights, over, k).
template <class Kernel, class ForRuns>
HWY_INLINE void write_runs(const Kernel& kernel, Writing writing, ForRuns for_runs) {
  const auto directly = [&](auto how) HWY_ATTR {
    for_runs([&](std::int64_t i, std::int64_t size, std::int64_t distance, const float* weights,
                 bool over, auto k)
                 HWY_ATTR { run_directly(kernel, i, size, distance, weights, over, how, k); });
  };
  if (!writing.direct) {
    StageOf<Kernel> first(writing.stream);
    StageOf<Kernel> second(writing.stream);
    for_runs([&](std::int64_t i, std::int64_t size, std::int64_t distance, const float* weights,
                 bool over, auto k) HWY_ATTR {
      run_staged(kernel, i, size, distance, weights, over, first, second, k);
    });
    first.finish();
    second.finish();
  } else if (writing.stream) {
    directly(PastCache{});
  } else {
    directly(ThroughCache{});
  }
  if (writing.stream) {
    hwy::FlushStream();
  }
}

template <class Kernel>
class ElementsByPlanes {
 public:
  using T = typename Kernel::Element;

  ElementsByPlanes(const Kernel& kernel, const Planes& planes, bool stream)
      : kernel_(kernel), planes_(planes) {
    const std::int64_t plane = planes.extents().plane;
    const bool whole_steps = plane % step_of<T>() == 0;
    const bool long_planes = plane >= 32 * step_of<T>();  // an end now and then costs little
    const bool apart = !kernel.in_place();
    writing_.stream = stream;
    writing_.direct = stream ? whole_steps && outputs_are_aligned(kernel, 0)
                             : whole_steps || long_planes || apart;
    // In place, what is behind a plane is still to be read, and only a stage keeps it.
    over_ = apart || !writing_.direct;
  }

  void operator()(const Planes::Block& block) const {
    write_runs(kernel_, writing_, [&](auto run) HWY_ATTR { for_planes(block, run); });
  }

 private:
  // Calls run(i, size, distance, weights, over, k) for every plane of the block.
  template <class Plane>
  HWY_INLINE void for_planes(const Planes::Block& block, Plane run) const {
    for (std::int64_t row = block.rows.begin; row < block.rows.end; ++row) {
      const float* weights =
          Kernel::weighted ? kernel_.weight + row * planes_.extents().plane + block.plane.begin
                           : nullptr;
      for (std::int64_t c = block.channels.begin; c < block.channels.end; ++c) {
        const Broadcast<typename Kernel::Channel> k(kernel_.coefficients(c));
        const std::int64_t behind = (block.channels.end - c - 1) * planes_.extents().plane;
        run(planes_.index(row, c, block.plane.begin), block.plane.size(), prefetch_distance<T>,
            weights, over_ && behind >= step_of<T>(), [&](std::int64_t) HWY_ATTR { return k; });
      }
    }
  }

  const Kernel& kernel_;
  const Planes& planes_;
  Writing writing_;
  bool over_;  ///< a plane's last step may go beyond its end if the block's next planes are there
};

template <class Kernel>
class ElementsByColumns {
 public:
  using T = typename Kernel::Element;
  using Coefficients = Table<T, typename Kernel::Channel>;

  ElementsByColumns(const Kernel& kernel, const Columns& columns, bool stream, Scratch& scratch)
      : kernel_(kernel), columns_(columns), table_(columns, kernel, scratch) {
    const bool whole_steps = columns.stride() % step_of<T>() == 0;
    writing_.stream = stream;
    writing_.direct = !stream || (whole_steps && outputs_are_aligned(kernel, columns.index(0, 0)));
  }

  void operator()(const Columns::Block& block) const {
    write_runs(kernel_, writing_, [&](auto run) HWY_ATTR { for_rows(block, run); });
  }

 private:
  // Calls run(i, size, distance, weights, over, k) for every row of the block, or piece of one.
  template <class Row>
  HWY_INLINE void for_rows(const Columns::Block& block, Row run) const {
    const std::int64_t full_rows = std::min(block.rows.end, columns_.full_rows());
    for (std::int64_t row = block.rows.begin; row < full_rows; ++row) {
      line(row, block.columns, run);
    }
    if (full_rows < block.rows.end) {
      line(full_rows, {block.columns.begin, std::min(block.columns.end, columns_.rest())}, run);
    }
  }

  template <class Row>
  HWY_INLINE void line(std::int64_t row, Range range, Row run) const {
    if (range.size() <= 0) {
      return;
    }
    // Memory goes on behind the row, or some rows below it.
    const std::int64_t distance =
        range.size() == columns_.stride()
            ? prefetch_distance<T>
            : (prefetch_distance<T> / range.size() + 1) * columns_.stride();
    const std::int64_t begin = columns_.index(row, 0);
    const auto run_piece = [&](Range piece, const float* weights) HWY_ATTR {
      run(begin + piece.begin, piece.size(), distance, weights, false,
          [&](std::int64_t s)
              HWY_ATTR { return typename Coefficients::View(table_, piece.begin + s); });
    };
    if constexpr (Kernel::weighted) {
      for_weighted_pieces(columns_, kernel_.weight, row, range, run_piece);
    } else {
      run_piece(range, nullptr);
    }
  }

  const Kernel& kernel_;
  const Columns& columns_;
  Writing writing_;
  Coefficients table_;
};

/// Runs `kernel` over all elements of some channels of a tensor like x. The end of it comes first:
/// it was summed last, and is used before it is gone from the cache.
template <class Kernel>
void for_each_element(const ConstTensorView& x, const ChannelRange& channels, const Kernel& kernel,
                      const Run& run) {
  run.scratch.reset();
  const Extents extents = extents_of(x);
  if (extents.size() == 0) {
    return;
  }
  if (extents.has_long_planes()) {
    const Planes planes(extents, channels, Purpose::elements);
    run_blocks(planes, Order::backward, ElementsByPlanes<Kernel>(kernel, planes, run.stream));
  } else {
    const Columns columns(extents, channels, Purpose::elements);
    run_blocks(columns, Order::backward,
               ElementsByColumns<Kernel>(kernel, columns, run.stream, run.scratch));
  }
}

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_ELEMENTWISE_INL
