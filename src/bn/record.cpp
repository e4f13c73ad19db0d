// SPDX-License-Identifier: Apache-2.0
#include "bn/record.hpp"

#include <cstdint>
#include <span>
#include <utility>

#include "syncbn/error.hpp"

#include "bn/arguments.hpp"
#include "bn/layer.hpp"
#include "bn/phase_call.hpp"
#include "bn/place.hpp"
#include "bn/validate.hpp"

namespace syncbn {
namespace {

std::span<const double> values(const ForwardRecord::Impl& record, const double* array) {
  return record.note.forward == 0 ? std::span<const double>()
                                  : std::span(array, static_cast<std::size_t>(record.note.shape.c));
}

/// Fills the note member by member, so that its string keeps its memory.
void describe(const bn::Layer& layer, const bn::ForwardArguments& arguments,
              bn::ForwardNote& note) {
  note.shape = arguments.x.shape();
  note.dtype = arguments.x.dtype();
  note.layout = arguments.x.layout();
  note.had_residual = arguments.residual.has_value();
  note.had_weights = !arguments.position_weights.empty();
  note.in_place = arguments.in_place;
  note.layer = layer.identity.name;
  note.layer_number = layer.identity.number;
}

// These bits of a note say what a forward was.
constexpr std::int64_t with_residual = 1;
constexpr std::int64_t with_weights = 2;
constexpr std::int64_t in_place = 4;
constexpr std::int64_t frozen = 8;
constexpr std::int64_t all_bits = 15;

ForwardRecord::Note to_numbers(const bn::ForwardNote& note) {
  const auto bit = [](bool is_set, std::int64_t flag) { return is_set ? flag : 0; };
  const std::int64_t flags = bit(note.had_residual, with_residual) |
                             bit(note.had_weights, with_weights) | bit(note.in_place, in_place) |
                             bit(note.frozen, frozen);
  return {note.shape.n,
          note.shape.c,
          note.shape.s,
          static_cast<std::int64_t>(note.dtype),
          static_cast<std::int64_t>(note.layout),
          flags,
          note.blocks,
          static_cast<std::int64_t>(note.layer_number),
          note.forward};
}

bn::ForwardNote to_forward_note(const ForwardRecord::Note& numbers) {
  if (numbers == ForwardRecord::Note{}) {
    return {};
  }
  const auto& [n, c, s, dtype, layout, flags, blocks, layer, forward] = numbers;
  if (n < 0 || c < 1 || s < 0 || dtype < 0 || dtype > static_cast<std::int64_t>(DType::bf16) ||
      layout < 0 || layout > static_cast<std::int64_t>(Layout::channels_last) || flags < 0 ||
      flags > all_bits || blocks < 1 || forward < -1 || forward == 0) {
    throw InvalidArgument("the note is none of a record. Pass what its note() returned.");
  }
  return {.shape = {n, c, s},
          .dtype = static_cast<DType>(dtype),
          .layout = static_cast<Layout>(layout),
          .had_residual = (flags & with_residual) != 0,
          .had_weights = (flags & with_weights) != 0,
          .in_place = (flags & in_place) != 0,
          .frozen = (flags & frozen) != 0,
          .blocks = blocks,
          .layer = {},
          .layer_number = static_cast<std::uint64_t>(layer),
          .forward = forward};
}

}  // namespace

ForwardRecord::ForwardRecord() : impl_(std::make_unique<Impl>()) {}

ForwardRecord::ForwardRecord(double* memory, std::int64_t channels, Device device)
    : ForwardRecord() {
  if (channels < 1 || channels > Shape::most_channels) {
    throw InvalidArgument("a record for " + std::to_string(channels) +
                          " channels (at least 1 and at most 2^40)");
  }
  const bn::Memory whole{"a record's memory", memory, length(channels) * sizeof(double),
                         alignof(double)};
  if (memory == nullptr) {
    throw InvalidArgument("a record's memory is null (" + std::to_string(length(channels)) +
                          " doubles expected)");
  }
  bn::require_aligned(whole);
  bn::require_all_held(device, {whole});
  impl_->memory = {memory, channels, device, nullptr};
  impl_->is_callers = true;
}

ForwardRecord::ForwardRecord(double* memory, std::int64_t channels, Device device, const Note& note)
    : ForwardRecord(memory, channels, device) {
  impl_->note = to_forward_note(note);
  if (impl_->note.forward != 0) {
    if (impl_->note.shape.c > channels) {
      throw InvalidArgument("the note is of a forward of " + std::to_string(impl_->note.shape.c) +
                            " channels (the record's memory is for " + std::to_string(channels) +
                            ")");
    }
    impl_->arrays = channels::StatisticsArrays::in(memory, impl_->note.shape.c);
  }
}

ForwardRecord::Note ForwardRecord::note() const {
  return is_empty() ? Note{} : to_numbers(impl_->note);
}

ForwardRecord::ForwardRecord(ForwardRecord&&) noexcept = default;
ForwardRecord& ForwardRecord::operator=(ForwardRecord&&) noexcept = default;
ForwardRecord::~ForwardRecord() = default;

std::size_t ForwardRecord::length(std::int64_t channels) {
  return channels < 1 || channels > Shape::most_channels
             ? 0
             : channels::StatisticsArrays::length(channels);
}

bool ForwardRecord::is_empty() const {
  return impl_->note.forward == 0;
}

std::span<const double> ForwardRecord::mean() const {
  return values(*impl_, impl_->arrays.mean);
}

std::span<const double> ForwardRecord::var() const {
  return values(*impl_, impl_->arrays.var);
}

std::span<const double> ForwardRecord::invstd() const {
  return values(*impl_, impl_->arrays.invstd);
}

std::span<const double> ForwardRecord::count() const {
  return is_empty() ? std::span<const double>() : std::span(impl_->arrays.count, 1);
}

void ForwardRecord::Impl::make_room(const bn::Layer& layer, const bn::Place& place) {
  const auto fits = [&](const Memory& room) {
    return room.capacity >= layer.channels && room.device == place.device();
  };
  if (is_callers && !fits(memory)) {
    throw InvalidArgument("layer '" + layer.identity.label + "': the record's memory is for " +
                          std::to_string(memory.capacity) + " channels on " +
                          to_string(memory.device) + " (the layer has " +
                          std::to_string(layer.channels) + " on " + to_string(place.device()) +
                          "). Give it a record of its own.");
  }
  if (fits(memory)) {
    next = {};
  } else if (!fits(next)) {
    std::shared_ptr<void> owner = place.allocate(length(layer.channels) * sizeof(double));
    auto* const data = static_cast<double*>(owner.get());
    next = {data, layer.channels, place.device(), std::move(owner)};
  }
}

void ForwardRecord::Impl::lay_out(const bn::Layer& layer) {
  note.forward = 0;
  if (next.data != nullptr) {
    if (memory.owner != nullptr && !memory.device.is_cpu()) {
      outgrown.push_back(std::move(memory.owner));
    }
    memory = std::exchange(next, {});
  }
  arrays = channels::StatisticsArrays::in(memory.data, layer.channels);
}

void ForwardRecord::Impl::note_forward(bn::Layer& layer, const bn::ForwardArguments& arguments,
                                       std::int64_t blocks) {
  describe(layer, arguments, note);
  note.frozen = false;
  note.blocks = blocks;
  note.forward = ++layer.forwards;
}

void ForwardRecord::Impl::note_infer(const bn::Layer& layer,
                                     const bn::ForwardArguments& arguments) {
  describe(layer, arguments, note);
  note.frozen = true;
  note.blocks = 1;
  note.forward = -1;
}

}  // namespace syncbn
