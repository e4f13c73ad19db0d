// SPDX-License-Identifier: Apache-2.0
//
// The input is a safetensors file. It is refused with a FileError, or what was read can be saved
// and read again, and a layer can be asked to take it.

#include <cstddef>
#include <cstdint>

#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"
#include "syncbn/state.hpp"

#include "fuzz/expect.hpp"
#include "fuzz/memory_directory.hpp"
#include "fuzz/target.hpp"

namespace syncbn::fuzz {
namespace {

template <class Call>
bool refused(Call call) {
  try {
    call();
    return false;
  } catch (const FileError&) {
    return true;
  }
}

void look_into(const StateDict& state) {
  for (const auto& [name, tensor] : state.tensors) {
    refused([&, &key = name, &value = tensor] { value.as_doubles(key); });
    refused([&, &key = name, &value = tensor] { value.as_integer(key); });
  }
}

/// What a layer takes it also gives back.
void load_into_layer(const StateDict& state) {
  BatchNorm layer(3, Communicator::self());
  if (refused([&] { layer.load_state(state); })) {
    return;
  }
  StateDict saved;
  layer.save_state(saved);
  BatchNorm other(3, Communicator::self());
  other.load_state(saved);
  expect(*other.num_batches_tracked() == *layer.num_batches_tracked(), "a state round-trips");
}

}  // namespace

void run(std::string_view input) {
  static const MemoryDirectory directory;
  const std::filesystem::path file = directory.write("input", input);
  StateDict state;
  if (refused([&] { state = load_safetensors(file); })) {
    return;
  }
  look_into(state);
  load_into_layer(state);
  save_safetensors(state, directory.path() / "saved");
  expect(load_safetensors(directory.path() / "saved") == state, "a file round-trips");
}

}  // namespace syncbn::fuzz
