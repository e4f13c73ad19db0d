// SPDX-License-Identifier: Apache-2.0
//
// The input is what two or more ranks sent as descriptors. Either it says what they exchange,
// packed as the library does it, or it is any doubles at all, as an all-reduce that does not add up
// would deliver them. The disagreement is described, or refused with a CommError.

#include "comm/group/descriptor.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "syncbn/error.hpp"

#include "fuzz/expect.hpp"
#include "fuzz/target.hpp"

namespace syncbn::fuzz {
namespace {

constexpr comm::Operation counted{
    "all_reduce", "n", "advice", {comm::FactWords{.name = "parts", .one = "part"}}};

void pack_one(FuzzedDataProvider& input, std::span<double> words) {
  const std::string name = input.ConsumeRandomLengthString(comm::longest_operation);
  const std::string unit = input.ConsumeRandomLengthString(comm::longest_unit);
  const std::string subject = input.ConsumeRandomLengthString(2 * comm::longest_subject);
  const std::string options = input.ConsumeRandomLengthString(2 * comm::longest_options);
  const comm::Operation operation(name, unit);
  const auto largest = std::int64_t{1} << 53;
  comm::Descriptor what{.operation = &operation,
                        .subject = subject,
                        .count = input.ConsumeIntegralInRange<std::int64_t>(0, largest),
                        .dtype = static_cast<DType>(input.ConsumeIntegralInRange(0, 3)),
                        .options = options};
  for (std::uint64_t& fact : what.facts) {
    fact = input.ConsumeIntegral<std::uint64_t>();
  }
  comm::pack(what, input.ConsumeIntegralInRange<std::int64_t>(0, largest), words);
}

}  // namespace

void run(std::string_view bytes) {
  FuzzedDataProvider input(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  const auto ranks = input.ConsumeIntegralInRange<std::size_t>(2, 5);
  std::vector<double> packed(ranks * comm::descriptor_words);
  const bool garbage = input.ConsumeBool();
  if (garbage) {
    input.ConsumeData(packed.data(), packed.size() * sizeof(double));
  }
  for (std::size_t rank = 0; rank < ranks && !garbage; ++rank) {
    pack_one(input,
             std::span(packed).subspan(rank * comm::descriptor_words, comm::descriptor_words));
  }
  try {
    expect(!comm::describe_disagreement(counted, packed).empty(), "a disagreement is described");
  } catch (const CommError&) {
    expect(garbage, "what was packed can be read");
  }
}

}  // namespace syncbn::fuzz
