// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace syncbn {

/// Element types of the safetensors format.
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

/// The format's own spelling: "BOOL", "U8", ... "F64"; "other" for other.
std::string_view to_string(StateDType dtype);

/// Bytes an element takes; 0 for other.
std::size_t size_of(StateDType dtype);

/// A tensor at rest: its elements in row-major order, little endian.
struct StateTensor {
  StateDType dtype = StateDType::f64;
  std::vector<std::int64_t> shape;  ///< empty for a scalar
  std::vector<std::byte> bytes;     ///< product of shape times size_of(dtype); any for other
  std::string other_type = {};      ///< the format's spelling of the type, if dtype is other

  static StateTensor from(const std::vector<double>& values);
  static StateTensor from(const std::vector<float>& values);
  static StateTensor from(std::int64_t scalar);

  /// The format's spelling of its type.
  std::string_view type_name() const;
  /// Elements of any type between f16 and f64 as double. Throws FileError for integers and other
  /// types; `name` is for the message only.
  std::vector<double> as_doubles(std::string_view name) const;
  /// The one element of an integer, or of a floating type with a whole number in it. Throws
  /// FileError otherwise.
  std::int64_t as_integer(std::string_view name) const;

  friend bool operator==(const StateTensor&, const StateTensor&) = default;
};

/// Named tensors, and the free-form text entries a safetensors file may carry.
struct StateDict {
  std::map<std::string, StateTensor> tensors;
  std::map<std::string, std::string> metadata;

  friend bool operator==(const StateDict&, const StateDict&) = default;
};

/// Reads a safetensors file. Everything is checked before anything is returned: header length,
/// JSON, names, shapes, offsets (no overlap, no gap, nothing beyond the end), and the checksum if
/// the file has one. No more than the header is read of a file whose header does not fit its size.
/// Throws FileError.
StateDict load_safetensors(const std::filesystem::path& file);

/// Writes a safetensors file atomically: into a new file beside it, flushed to the disk, then
/// renamed over `file`. A process killed at any moment leaves the old file or the new one. Throws
/// FileError and leaves the old file.
///
/// The file has one more entry of metadata, "syncbn.checksum", of all else that it holds.
/// load_safetensors takes it out again. Without that entry a file is loaded unchecked: remove it
/// where another program changes tensors and keeps metadata.
void save_safetensors(const StateDict& state, const std::filesystem::path& file);

}  // namespace syncbn
