// SPDX-License-Identifier: Apache-2.0
//
// The input is up to four flight records with "\n---\n" between them. Together they are described,
// or refused with a FileError.

#include "app/flight_records.hpp"

#include <cstddef>
#include <cstdint>

#include "syncbn/error.hpp"

#include "fuzz/expect.hpp"
#include "fuzz/memory_directory.hpp"
#include "fuzz/target.hpp"

namespace syncbn::fuzz {
void run(std::string_view input) {
  static const MemoryDirectory directory;
  for (const char* name : {"a.json", "b.json", "c.json", "d.json"}) {
    directory.write(name, next_part(input, "\n---\n"));
  }
  try {
    expect(!app::describe_flight_records(directory.path()).empty(), "records are described");
  } catch (const FileError&) {
  }
}

}  // namespace syncbn::fuzz
