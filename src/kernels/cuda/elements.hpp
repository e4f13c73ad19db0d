// SPDX-License-Identifier: Apache-2.0
#pragma once

// Kernels read and write elements in vectors of 16 bytes, and compute with them in float or double.

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/float16.hpp"
#include "core/host_device.hpp"

#include "kernels/cuda/geometry.hpp"

namespace syncbn::kernels::cuda {

/// A Lane<T> is the type that elements of type T are computed in.
template <class T>
using Lane = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
inline constexpr int vector_size = 16 / static_cast<int>(sizeof(T));

/// Words are the 16 bytes that a vector access moves.
struct alignas(16) Words {
  std::uint32_t word[4];
};

SYNCBN_HOST_DEVICE inline double to_lane(double element) {
  return element;
}
SYNCBN_HOST_DEVICE inline float to_lane(float element) {
  return element;
}
SYNCBN_HOST_DEVICE inline float to_lane(BFloat16 element) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(element.bits) << 16);
}
SYNCBN_HOST_DEVICE inline float to_lane(Float16 element) {
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(element.bits));
  return value;
#else
  return static_cast<float>(to_double(element));
#endif
}

/// Rounds to nearest, ties to even.
template <class T>
SYNCBN_HOST_DEVICE T from_lane(Lane<T> value) {
  if constexpr (sizeof(T) != 2) {
    return value;
  } else {
#ifdef __CUDA_ARCH__
    T element;
    if constexpr (std::is_same_v<T, BFloat16>) {
      asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(element.bits) : "f"(value));
    } else {
      asm("cvt.rn.f16.f32 %0, %1;" : "=h"(element.bits) : "f"(value));
    }
    return element;
#else
    return from_double<T>(static_cast<double>(value));
#endif
  }
}

template <class T>
SYNCBN_HOST_DEVICE T element(const Words& words, int i) {
  if constexpr (sizeof(T) == 8) {
    const std::uint64_t high = words.word[2 * i + 1];
    return std::bit_cast<T>(high << 32 | words.word[2 * i]);
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(words.word[i]);
  } else {
    return std::bit_cast<T>(static_cast<std::uint16_t>(words.word[i / 2] >> (i % 2 * 16)));
  }
}

/// Sets the i-th element of words, in which its bits are 0 so far.
template <class T>
SYNCBN_HOST_DEVICE void set_element(Words& words, int i, T value) {
  if constexpr (sizeof(T) == 8) {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    words.word[2 * i] = static_cast<std::uint32_t>(bits);
    words.word[2 * i + 1] = static_cast<std::uint32_t>(bits >> 32);
  } else if constexpr (sizeof(T) == 4) {
    words.word[i] = std::bit_cast<std::uint32_t>(value);
  } else {
    words.word[i / 2] |= static_cast<std::uint32_t>(std::bit_cast<std::uint16_t>(value))
                         << (i % 2 * 16);
  }
}

inline bool is_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(Words) == 0;
}

/// Loads a vector in one access; `from` is aligned to 16 bytes.
template <class T>
SYNCBN_HOST_DEVICE Words load_words(const T* from) {
#ifdef __CUDA_ARCH__
  const uint4 loaded = *reinterpret_cast<const uint4*>(from);
  return {loaded.x, loaded.y, loaded.z, loaded.w};
#else
  Words words;
  std::memcpy(&words, from, sizeof words);
  return words;
#endif
}
template <class T>
SYNCBN_HOST_DEVICE void store_words(T* to, const Words& words) {
#ifdef __CUDA_ARCH__
  *reinterpret_cast<uint4*>(to) =
      make_uint4(words.word[0], words.word[1], words.word[2], words.word[3]);
#else
  std::memcpy(to, &words, sizeof words);
#endif
}

/// Loads the elements that a step has; the others are 0.
template <class T>
SYNCBN_HOST_DEVICE Words load_step(const T* from, const Step<vector_size<T>>& step, bool aligned) {
  if (aligned && step.whole()) {
    return load_words(from + step.index);
  }
  Words words{};
  SYNCBN_UNROLL
  for (int i = 0; i < vector_size<T>; ++i) {
    if (i >= step.lo && i < step.hi) {
      set_element(words, i, from[step.index + i]);
    }
  }
  return words;
}
template <class T>
SYNCBN_HOST_DEVICE void store_step(T* to, const Step<vector_size<T>>& step, bool aligned,
                                   const Words& words) {
  if (aligned && step.whole()) {
    store_words(to + step.index, words);
    return;
  }
  SYNCBN_UNROLL
  for (int i = 0; i < vector_size<T>; ++i) {
    if (i >= step.lo && i < step.hi) {
      to[step.index + i] = element<T>(words, i);
    }
  }
}

}  // namespace syncbn::kernels::cuda
