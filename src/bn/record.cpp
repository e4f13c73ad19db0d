// SPDX-License-Identifier: Apache-2.0
#include "bn/record.hpp"

#include <cstdint>
#include <span>

#include "syncbn/error.hpp"

#include "bn/arguments.hpp"
#include "bn/layer.hpp"
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

}  // namespace

ForwardRecord::ForwardRecord() : impl_(std::make_unique<Impl>()) {}

ForwardRecord::ForwardRecord(double* memory, std::int64_t channels, Device device)
    : ForwardRecord() {
  bn::require_array("a record's memory", ArrayView(memory, DType::f64, channels, device), channels,
                    device);
  impl_->memory = memory;
  impl_->capacity = channels;
  impl_->device = device;
  impl_->is_callers = true;
}

ForwardRecord::ForwardRecord(ForwardRecord&&) noexcept = default;
ForwardRecord& ForwardRecord::operator=(ForwardRecord&&) noexcept = default;
ForwardRecord::~ForwardRecord() = default;

std::size_t ForwardRecord::length(std::int64_t channels) {
  return channels::StatisticsArrays::length(channels);
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

void ForwardRecord::Impl::require_room(const bn::Layer& layer, const bn::Place& place) const {
  if (is_callers && (capacity < layer.channels || device != place.device())) {
    throw InvalidArgument("layer '" + layer.identity.name + "': the record's memory is for " +
                          std::to_string(capacity) + " channels on " + to_string(device) +
                          " (the layer has " + std::to_string(layer.channels) + " on " +
                          to_string(place.device()) + "). Give it a record of its own.");
  }
}

void ForwardRecord::Impl::reserve(const bn::Layer& layer, const bn::Place& place) {
  note.forward = 0;
  if (capacity < layer.channels || device != place.device()) {
    own = place.allocate(length(layer.channels) * sizeof(double));
    memory = static_cast<double*>(own.get());
    capacity = layer.channels;
    device = place.device();
  }
  arrays = channels::StatisticsArrays::in(memory, layer.channels);
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
