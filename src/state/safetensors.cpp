// SPDX-License-Identifier: Apache-2.0
//
// The safetensors format (github.com/huggingface/safetensors, README "Format"): 8 bytes little
// endian length of the header, the header as JSON
//   {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__":
//   {...}}
// then the tensors' bytes; offsets count from the header's end and leave no gap.

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <span>

#include <nlohmann/json.hpp>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "core/atomic_file.hpp"

namespace syncbn {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

using nlohmann::json;

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t max_header = 100'000'000;   // the format's own limit
constexpr std::uint64_t max_elements = 1ull << 59;  // their bytes fit 63 bits
constexpr std::string_view metadata_key = "__metadata__";

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& why) {
  throw FileError("'" + file.string() + "' is not a usable safetensors file (" + why + ")");
}

std::vector<std::byte> read_file(const std::filesystem::path& file) {
  if (std::filesystem::exists(file) && !std::filesystem::is_regular_file(file)) {
    throw FileError("cannot read '" + file.string() + "' (it is no regular file)");
  }
  std::ifstream stream(file, std::ios::binary | std::ios::ate);
  if (!stream) {
    throw FileError("cannot open '" + file.string() + "' (" + std::strerror(errno) + ")");
  }
  const std::streamoff size = stream.tellg();
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  stream.seekg(0);
  stream.read(reinterpret_cast<char*>(bytes.data()), size);
  if (!stream) {
    throw FileError("cannot read '" + file.string() + "' (" + std::strerror(errno) + ")");
  }
  return bytes;
}

std::optional<StateDType> dtype_named(std::string_view name) {
  for (auto dtype = StateDType::boolean;; dtype = static_cast<StateDType>(int(dtype) + 1)) {
    if (to_string(dtype) == name) {
      return dtype;
    }
    if (dtype == StateDType::u64) {
      return std::nullopt;
    }
  }
}

/// Product of the extents, or nothing if one is negative or it does not fit.
std::optional<std::uint64_t> element_count(const std::vector<std::int64_t>& shape) {
  std::uint64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0) {
      return std::nullopt;
    }
    const auto factor = static_cast<std::uint64_t>(extent);
    if (factor != 0 && count > max_elements / factor) {
      return std::nullopt;
    }
    count *= factor;
  }
  return count;
}

struct Placed {
  std::string name;
  StateTensor tensor;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

template <class T>
std::vector<T> whole_numbers(const json& list, const std::string& name) {
  if (!list.is_array() ||
      !std::ranges::all_of(list, [](const json& number) { return number.is_number_integer(); })) {
    throw Error("tensor '" + name +
                "' has something else than whole numbers as its shape or offsets");
  }
  return list.get<std::vector<T>>();
}

/// JSON that names nothing twice.
json parse_header(const char* begin, const char* end) {
  if (begin == end || *begin != '{') {
    throw Error("its header is no JSON object");
  }
  std::vector<std::set<std::string>> names;
  const auto refuse_repetition = [&](int, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) {
      names.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      names.pop_back();
    } else if (event == json::parse_event_t::key && !names.back().insert(parsed).second) {
      throw Error("its header names " + parsed.dump() + " twice");
    }
    return true;
  };
  return json::parse(begin, end, refuse_repetition);
}

Placed parse_entry(const std::string& name, const json& entry) {
  Placed placed{name, {}, 0, 0};
  const auto dtype = dtype_named(entry.at("dtype").get<std::string>());
  if (!dtype) {
    throw Error("tensor '" + name + "' has the unknown type " + entry.at("dtype").dump());
  }
  placed.tensor.dtype = *dtype;
  placed.tensor.shape = whole_numbers<std::int64_t>(entry.at("shape"), name);
  const auto offsets = whole_numbers<std::uint64_t>(entry.at("data_offsets"), name);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    throw Error("tensor '" + name + "' has data_offsets that are no begin and end");
  }
  placed.begin = offsets[0];
  placed.end = offsets[1];
  const auto count = element_count(placed.tensor.shape);
  if (!count || *count * size_of(*dtype) != placed.end - placed.begin) {
    throw Error("tensor '" + name + "' has a shape that does not fit its " +
                std::to_string(placed.end - placed.begin) + " bytes");
  }
  return placed;
}

StateDict parse(const json& header, std::span<const std::byte> data) {
  StateDict state;
  std::vector<Placed> placed;
  for (const auto& [name, entry] : header.items()) {
    if (name == metadata_key) {
      state.metadata = entry.get<std::map<std::string, std::string>>();
    } else {
      placed.push_back(parse_entry(name, entry));
    }
  }
  std::ranges::sort(placed, {}, [](const Placed& p) { return std::pair(p.begin, p.end); });
  std::uint64_t expected = 0;
  for (Placed& p : placed) {
    if (p.begin != expected) {
      throw Error("tensor '" + p.name + "' leaves a gap or overlaps another");
    }
    expected = p.end;
    if (p.end > data.size()) {
      throw Error("tensor '" + p.name + "' ends " + std::to_string(p.end - data.size()) +
                  " bytes behind the end of the file: it was cut off");
    }
    const auto bytes = data.subspan(p.begin, p.end - p.begin);
    p.tensor.bytes.assign(bytes.begin(), bytes.end());
    state.tensors.emplace(std::move(p.name), std::move(p.tensor));
  }
  if (expected != data.size()) {
    throw Error(std::to_string(data.size() - expected) + " bytes follow the last tensor");
  }
  return state;
}

std::string to_text(const json& header) {
  try {
    return header.dump();
  } catch (const json::exception& error) {
    throw InvalidArgument(std::string("names or metadata cannot be saved (") + error.what() + ")");
  }
}

}  // namespace

StateDict load_safetensors(const std::filesystem::path& file) {
  const std::vector<std::byte> bytes = read_file(file);
  if (bytes.size() < length_bytes) {
    refuse(file, "it has " + std::to_string(bytes.size()) + " bytes, the header's length needs 8");
  }
  std::uint64_t header_length = 0;
  std::memcpy(&header_length, bytes.data(), length_bytes);
  if (header_length > max_header || header_length > bytes.size() - length_bytes) {
    refuse(file, "its header should have " + std::to_string(header_length) +
                     " bytes, the file has " + std::to_string(bytes.size()));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + length_bytes;
  try {
    const json header = parse_header(text, text + header_length);
    return parse(header, std::span(bytes).subspan(length_bytes + header_length));
  } catch (const json::exception& error) {
    refuse(file, std::string("its header does not parse: ") + error.what());
  } catch (const Error& error) {
    refuse(file, error.what());
  }
}

void save_safetensors(const StateDict& state, const std::filesystem::path& file) {
  json header = json::object();
  if (!state.metadata.empty()) {
    header[metadata_key] = state.metadata;
  }
  std::vector<std::byte> data;
  for (const auto& [name, tensor] : state.tensors) {
    const auto count = element_count(tensor.shape);
    if (name == metadata_key || !count || *count * size_of(tensor.dtype) != tensor.bytes.size()) {
      throw InvalidArgument("tensor '" + name + "' cannot be saved (its shape does not fit its " +
                            std::to_string(tensor.bytes.size()) + " bytes, or its name is taken)");
    }
    header[name] = {{"dtype", to_string(tensor.dtype)},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data.insert(data.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  std::string text = to_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // keeps the tensors aligned, as the format asks
  const std::uint64_t length = text.size();
  write_atomically(file,
                   {std::as_bytes(std::span(&length, 1)), std::as_bytes(std::span(text)), data});
}

}  // namespace syncbn
