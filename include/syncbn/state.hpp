// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "syncbn/export.h"

namespace syncbn {

/// A StateDType is an element type of the safetensors format.
enum class StateDType : std::uint8_t {
  boolean,
  u8,
  i8,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  f64,
  i64,
  u64,
  other,  ///< any type that is none of these, such as F8_E4M3 or C64: kept, not looked into
};

/// Returns the format's own spelling: "BOOL", "U8", ... "F64"; "other" for other.
SYNCBN_API std::string_view to_string(StateDType dtype);

/// Returns the size of an element; 0 for other. [B]
SYNCBN_API std::size_t size_of(StateDType dtype);

/// A StateTensor holds a tensor as a file does: its elements in row-major order, little endian.
struct SYNCBN_API StateTensor {
  StateDType dtype = StateDType::f64;
  std::vector<std::int64_t> shape;  ///< empty for a scalar
  std::vector<std::byte> bytes;     ///< product of shape times size_of(dtype); any size for other
  std::string other_type = {};      ///< the format's spelling of the type, if dtype is other

  static StateTensor from(const std::vector<double>& values);
  static StateTensor from(const std::vector<float>& values);
  static StateTensor from(std::int64_t scalar);

  /// Returns the format's spelling of its type.
  std::string_view type_name() const;
  /// Returns the elements as double, if they are f16, bf16, f32 or f64. Throws FileError for
  /// integers and other types; `name` is for the message only.
  std::vector<double> as_doubles(std::string_view name) const;
  /// Returns the only element, of an integer type or a whole number of a floating type. Throws
  /// FileError otherwise; `name` is for the message only.
  std::int64_t as_integer(std::string_view name) const;

  friend bool operator==(const StateTensor&, const StateTensor&) = default;
};

/// A StateDict holds named tensors, and the free-form text entries a safetensors file may carry.
struct StateDict {
  std::map<std::string, StateTensor> tensors;
  std::map<std::string, std::string> metadata;

  friend bool operator==(const StateDict&, const StateDict&) = default;
};

/// Local. Reads a safetensors file. Everything is checked before anything is returned: header
/// length, JSON, names, shapes, offsets (no overlap, no gap, nothing beyond the end), and the
/// checksum if the file has one. If the header does not fit the file's size, no more than the
/// header is read. Throws FileError.
SYNCBN_API StateDict load_safetensors(const std::filesystem::path& file);

/// Local. Writes a safetensors file atomically: into a new file beside it, flushed to the disk,
/// then renamed over `file`. A process killed at any moment leaves the old file or the new one.
/// Throws FileError and leaves the old file.
///
/// The file has one more metadata entry, "syncbn.checksum", a checksum of everything else in it,
/// which load_safetensors takes out again. A file without that entry is loaded unchecked: a program
/// that changes tensors and keeps metadata should remove it.
SYNCBN_API void save_safetensors(const StateDict& state, const std::filesystem::path& file);

}  // namespace syncbn
