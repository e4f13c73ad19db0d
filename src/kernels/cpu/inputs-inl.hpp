// SPDX-License-Identifier: Apache-2.0

// These are the tensors that a kernel reads and writes, the weights that it reads, and copies of
// their ends. Ends are copied because a step reads and writes whole vectors, and behind the last
// elements there may be no memory.

#if defined(SYNCBN_KERNELS_CPU_INPUTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCBN_KERNELS_CPU_INPUTS_INL
#undef SYNCBN_KERNELS_CPU_INPUTS_INL
#else
#define SYNCBN_KERNELS_CPU_INPUTS_INL
#endif

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

#include "kernels/cpu/elements-inl.hpp"
#include "kernels/cpu/plane_by_plane.hpp"

HWY_BEFORE_NAMESPACE();
namespace syncbn::kernels::cpu::HWY_NAMESPACE {

/// The tensors that a kernel reads, all of one type and at the same indices.
template <class T, std::size_t kCount>
struct Inputs {
  static constexpr std::size_t count = kCount;

  std::array<const T*, kCount> of;

  HWY_INLINE Inputs from(std::int64_t i) const {
    Inputs moved = *this;
    for (const T*& tensor : moved.of) {
      tensor += i;
    }
    return moved;
  }

  HWY_INLINE void prefetch(std::int64_t i) const {
    for (const T* tensor : of) {
      prefetch_step(tensor + i);
    }
  }
};

/// The tensors that a kernel writes, all of one type and at the same indices. All but the first may
/// be null.
template <class T, std::size_t kCount>
struct Outputs {
  static constexpr std::size_t count = kCount;

  std::array<T*, kCount> of;

  HWY_INLINE Outputs from(std::int64_t i) const {
    Outputs moved = *this;
    for (T*& tensor : moved.of) {
      tensor += tensor == nullptr ? 0 : i;
    }
    return moved;
  }
};

/// Copies `size` elements, fewer than a step has, and puts zeros behind them.
template <class T>
void copy_rest(T (&to)[max_step<T>], const T* from, std::int64_t size) {
  std::memset(static_cast<void*>(to), 0, sizeof(to));
  std::memcpy(static_cast<void*>(to), from, static_cast<std::size_t>(size) * sizeof(T));
}

/// Holds copies of fewer elements than a step has, with zeros behind them.
template <class T, std::size_t kCount>
class Rest {
 public:
  /// Copies `size` elements of each tensor, and returns where the copies are.
  Inputs<T, kCount> copy(const Inputs<T, kCount>& from, std::int64_t size) {
    Inputs<T, kCount> copies;
    for (std::size_t k = 0; k < kCount; ++k) {
      copy_rest(values_[k], from.of[k], size);
      copies.of[k] = values_[k];
    }
    return copies;
  }

 private:
  HWY_ALIGN T values_[kCount][max_step<T>];
};

/// Gives the last step of each strand where the strands' size is not a multiple of a step: the
/// place in the tensors, or a copy where less than a step can be read. Copies are made beforehand,
/// because a call among the steps would put the sums out of registers (7x7 planes of bf16: 0.6 of
/// the speed).
template <class T, std::size_t kCount>
class LastSteps {
 public:
  /// `readable` says that a whole step can be read where each strand ends.
  HWY_INLINE LastSteps(const Inputs<T, kCount>& in, const Strands& of, bool readable)
      : size_(of.size % step_of<T>()), first_(in.from(of.i + of.size - size_)), apart_(of.apart) {
    if (size_ > 0 && !readable) {
      copy(of.count);
    }
  }

  /// Returns the number of elements of a last step, 0 if strands have only whole ones.
  std::int64_t size() const { return size_; }

  HWY_INLINE Inputs<T, kCount> at(std::int64_t strand) const {
    return first_.from(strand * apart_);
  }

 private:
  HWY_NOINLINE void copy(std::int64_t strands) {
    for (std::size_t k = 0; k < kCount; ++k) {
      for (std::int64_t strand = 0; strand < strands; ++strand) {
        copy_rest(copies_[k][strand], first_.of[k] + strand * apart_, size_);
      }
      first_.of[k] = copies_[k][0];
    }
    apart_ = max_step<T>;
  }

  std::int64_t size_;
  Inputs<T, kCount> first_;
  std::int64_t apart_;
  HWY_ALIGN T copies_[kCount][most_strands][max_step<T>];
};

/// Holds a whole step's output of which only the first elements belong into the tensors.
template <class T, std::size_t kCount>
class RestOfOutputs {
 public:
  /// Returns where to write instead of `to`.
  Outputs<T, kCount> instead_of(const Outputs<T, kCount>& to) {
    Outputs<T, kCount> room;
    for (std::size_t k = 0; k < kCount; ++k) {
      room.of[k] = to.of[k] == nullptr ? nullptr : values_[k];
    }
    return room;
  }

  /// Copies the first `size` elements to `to`.
  void copy(const Outputs<T, kCount>& to, std::int64_t size) const {
    for (std::size_t k = 0; k < kCount; ++k) {
      if (to.of[k] != nullptr) {
        std::memcpy(static_cast<void*>(to.of[k]), values_[k],
                    static_cast<std::size_t>(size) * sizeof(T));
      }
    }
  }

 private:
  HWY_ALIGN T values_[kCount][max_step<T>];
};

/// Loads the weights of a step's elements of type T.
template <class T, class D>
HWY_INLINE void load_weights(D d, const float* from, hn::Vec<D>& a, hn::Vec<D>& b) {
  const hn::Rebind<float, D> df;
  const auto low = hn::LoadU(df, from);
  const auto high = hn::LoadU(df, from + hn::Lanes(df));
  if constexpr (std::is_same_v<T, double>) {
    a = hn::PromoteTo(d, low);
    b = hn::PromoteTo(d, high);
#if HWY_TARGET != HWY_SCALAR
  } else if constexpr (interleaved<T>) {
    a = hn::ConcatEven(d, high, low);
    b = hn::ConcatOdd(d, high, low);
#endif
  } else {
    a = low;
    b = high;
  }
}

/// Gives the weights of a run of positions, a step at a time; zeros follow the last one. It is
/// empty if the kernel wants no weights.
template <bool kWeighted>
class WeightsOfRun {
 public:
  WeightsOfRun(const float* weights, std::int64_t size, std::int64_t step)
      : weights_(weights), whole_(size / step * step) {
    if (whole_ < size) {
      std::fill_n(rest_, max_step<float>, 0.0F);
      std::copy_n(weights + whole_, size - whole_, rest_);
    }
  }

  /// Returns the weights of the step at s.
  HWY_INLINE const float* at(std::int64_t s) const { return s < whole_ ? weights_ + s : rest_; }

 private:
  const float* weights_;
  std::int64_t whole_;
  HWY_ALIGN float rest_[max_step<float>];
};
template <>
class WeightsOfRun<false> {
 public:
  WeightsOfRun(const float*, std::int64_t, std::int64_t) {}
  HWY_INLINE const float* at(std::int64_t) const { return nullptr; }
};

/// Gives the weights of each strand.
template <bool kWeighted>
class WeightsOfStrands {
 public:
  WeightsOfStrands(const Strands& of, std::int64_t step)
      : of_{{strand(of, 0), of.size, step},
            {strand(of, 1), of.size, step},
            {strand(of, 2), of.size, step},
            {strand(of, 3), of.size, step}} {}

  HWY_INLINE const float* at(std::int64_t strand, std::int64_t s) const {
    return of_[strand].at(s);
  }

 private:
  static const float* strand(const Strands& of, std::int64_t number) {
    return of.weights + (number < of.count ? number : 0) * of.weights_apart;
  }

  WeightsOfRun<true> of_[most_strands];
};
template <>
class WeightsOfStrands<false> {
 public:
  WeightsOfStrands(const Strands&, std::int64_t) {}
  HWY_INLINE const float* at(std::int64_t, std::int64_t) const { return nullptr; }
};

}  // namespace syncbn::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // SYNCBN_KERNELS_CPU_INPUTS_INL
