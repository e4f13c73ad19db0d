// SPDX-License-Identifier: Apache-2.0
//
// The safetensors format (github.com/huggingface/safetensors, README "Format"): 8 bytes little
// endian length of the header, the header as JSON
//   {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__":
//   {...}}
// then the tensors' bytes; offsets count from the header's end and leave no gap.

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "core/atomic_file.hpp"
#include "core/regular_file.hpp"

#include "state/checksum.hpp"

namespace syncbn {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

using nlohmann::json;

constexpr std::size_t length_bytes = 8;
constexpr std::uint64_t max_header = 100'000'000;   // the format's own limit
constexpr std::uint64_t max_elements = 1ull << 59;  // their bytes fit 63 bits
constexpr const char* metadata_key = "__metadata__";

[[noreturn]] void refuse(const std::filesystem::path& file, const std::string& why) {
  throw FileError("'" + file.string() + "' is not a usable safetensors file (" + why + ")");
}

StateDType dtype_named(std::string_view name) {
  auto dtype = StateDType::boolean;
  while (dtype != StateDType::other && to_string(dtype) != name) {
    dtype = static_cast<StateDType>(int(dtype) + 1);
  }
  return dtype;
}

/// Returns the product of the extents, or nothing if one is negative or the product is above
/// max_elements.
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

/// Tells whether a tensor's bytes are as many as its shape and type say. With StateDType::other
/// every number of bytes is possible.
bool fits(const StateTensor& tensor, std::uint64_t bytes) {
  const auto count = element_count(tensor.shape);
  return count && (tensor.dtype == StateDType::other || *count * size_of(tensor.dtype) == bytes);
}

const json& member(const json& entry, const char* key, const std::string& name) {
  if (!entry.is_object() || !entry.contains(key)) {
    throw Error("tensor '" + name + "' has no " + key);
  }
  return entry[key];
}

template <class T>
std::vector<T> whole_numbers(const json& list, const std::string& name) {
  if (!list.is_array() || !std::ranges::all_of(list, [](const json& number) {
        return number.is_number_unsigned() && std::in_range<T>(number.get<std::uint64_t>());
      })) {
    throw Error("tensor '" + name +
                "' has something else than whole numbers from 0 up as its shape or offsets");
  }
  return list.get<std::vector<T>>();
}

/// Parses the header: one JSON object that names nothing twice, with nothing but white space behind
/// it.
json parse_header(const std::string& text) {
  if (!text.starts_with('{')) {
    throw Error("its header is no JSON object");
  }
  if (text.find('\0') != std::string::npos) {  // the parser would stop there
    throw Error("its header has a byte of 0");
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
  return json::parse(text, refuse_repetition);
}

Placed parse_entry(const std::string& name, const json& entry) {
  Placed placed{name, {}, 0, 0};
  const json& type = member(entry, "dtype", name);
  if (!type.is_string() || type.get_ref<const std::string&>().empty()) {
    throw Error("tensor '" + name + "' has a dtype that names none");
  }
  const std::string& type_name = type.get_ref<const std::string&>();
  placed.tensor.dtype = dtype_named(type_name);
  if (placed.tensor.dtype == StateDType::other) {
    placed.tensor.other_type = type_name;
  }
  placed.tensor.shape = whole_numbers<std::int64_t>(member(entry, "shape", name), name);
  const auto offsets = whole_numbers<std::uint64_t>(member(entry, "data_offsets", name), name);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    throw Error("tensor '" + name + "' has data_offsets that are no begin and end");
  }
  placed.begin = offsets[0];
  placed.end = offsets[1];
  if (!fits(placed.tensor, placed.end - placed.begin)) {
    throw Error("tensor '" + name + "' has a shape that does not fit its " +
                std::to_string(placed.end - placed.begin) + " bytes");
  }
  return placed;
}

/// Reads an object of texts. Takes null for an empty one, as the format's own reader does.
std::map<std::string, std::string> parse_metadata(const json& entries) {
  if (entries.is_null()) {
    return {};
  }
  if (!entries.is_object() ||
      !std::ranges::all_of(entries, [](const json& value) { return value.is_string(); })) {
    throw Error("its __metadata__ is something else than texts with names");
  }
  return entries.get<std::map<std::string, std::string>>();
}

/// Returns the tensors that the header names, in the order of their bytes, which must be `size`
/// without a gap.
std::vector<Placed> parse_tensors(const json& header, std::uint64_t size) {
  std::vector<Placed> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name != metadata_key) {
      tensors.push_back(parse_entry(name, entry));
    }
  }
  std::ranges::sort(tensors, {}, [](const Placed& p) { return std::pair(p.begin, p.end); });
  std::uint64_t expected = 0;
  for (const Placed& p : tensors) {
    if (p.begin != expected) {
      throw Error("tensor '" + p.name + "' leaves a gap or overlaps another");
    }
    expected = p.end;
    if (p.end > size) {
      throw Error("tensor '" + p.name + "' ends " + std::to_string(p.end - size) +
                  " bytes behind the end of the file: it was cut off");
    }
  }
  if (expected != size) {
    throw Error(std::to_string(size - expected) + " bytes follow the last tensor");
  }
  return tensors;
}

std::string read_header(RegularFile& opened) {
  if (opened.size() < length_bytes) {
    throw Error("it has " + std::to_string(opened.size()) + " bytes, the header's length needs 8");
  }
  std::uint64_t length = 0;
  opened.read(std::as_writable_bytes(std::span(&length, 1)));
  if (length > max_header || length > opened.size() - length_bytes) {
    throw Error("its header should have " + std::to_string(length) + " bytes, the file has " +
                std::to_string(opened.size()));
  }
  std::string text(length, ' ');
  opened.read(std::as_writable_bytes(std::span(text)));
  return text;
}

/// Takes the checksum, if there is one, out of the metadata. Throws Error if it is not that of
/// `state`.
void verify(StateDict& state) {
  const auto recorded = state.metadata.find(checksum_key);
  if (recorded == state.metadata.end()) {
    return;
  }
  if (recorded->second != checksum_of(state)) {
    throw Error(
        std::string("its checksum is not that of its contents: it was damaged, or changed by "
                    "a program that left the metadata's entry ") +
        checksum_key + " as it was");
  }
  state.metadata.erase(recorded);
}

StateDict read_state(RegularFile& opened) {
  const std::string text = read_header(opened);
  const json header = parse_header(text);
  StateDict state;
  if (const auto found = header.find(metadata_key); found != header.end()) {
    state.metadata = parse_metadata(*found);
  }
  for (Placed& placed : parse_tensors(header, opened.size() - length_bytes - text.size())) {
    placed.tensor.bytes.resize(placed.end - placed.begin);
    opened.read(placed.tensor.bytes);
    state.tensors.emplace(std::move(placed.name), std::move(placed.tensor));
  }
  verify(state);
  return state;
}

json header_entry(const StateTensor& tensor, const std::string& name, std::size_t begin) {
  const bool known = dtype_named(tensor.type_name()) == tensor.dtype && !tensor.type_name().empty();
  if (name == metadata_key || !known || !fits(tensor, tensor.bytes.size())) {
    throw InvalidArgument("tensor '" + name + "' cannot be saved (its shape does not fit its " +
                          std::to_string(tensor.bytes.size()) +
                          " bytes, its type has no name of its own, or its name is taken)");
  }
  return {{"dtype", tensor.type_name()},
          {"shape", tensor.shape},
          {"data_offsets", {begin, begin + tensor.bytes.size()}}};
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
  RegularFile opened(file);
  try {
    return read_state(opened);
  } catch (const json::exception& error) {
    refuse(file, std::string("its header does not parse: ") + error.what());
  } catch (const Error& error) {
    refuse(file, error.what());
  }
}

void save_safetensors(const StateDict& state, const std::filesystem::path& file) {
  json header = json::object();
  header[metadata_key] = state.metadata;
  header[metadata_key][checksum_key] = checksum_of(state);
  std::vector<std::byte> data;
  for (const auto& [name, tensor] : state.tensors) {
    header[name] = header_entry(tensor, name, data.size());
    data.insert(data.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  std::string text = to_text(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // keeps the tensors aligned, as the format asks
  const std::uint64_t length = text.size();
  write_atomically(file,
                   {std::as_bytes(std::span(&length, 1)), std::as_bytes(std::span(text)), data});
}

}  // namespace syncbn
