// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "syncbn/batch_norm.hpp"
#include "syncbn/c/syncbn.h"
#include "syncbn/communicator.hpp"
#include "syncbn/population.hpp"

#include "core/internal_api.hpp"

// These types are behind the opaque pointers of the C interface.

struct syncbn_communicator {
  syncbn::Communicator group;
};

struct syncbn_batch_norm {
  syncbn::BatchNorm layer;
};

struct syncbn_forward_record {
  syncbn::ForwardRecord record;
};

struct syncbn_population {
  syncbn::PopulationStatistics statistics;
};

struct syncbn_scratch {
  syncbn::Scratch scratch;
};

namespace syncbn::capi {

// These functions turn the C enums and structs into ours. Each throws InvalidArgument for what is
// out of range or NULL.

DType to_dtype(syncbn_dtype dtype);
/// Takes NULL for no weights.
PositionWeights to_weight(const float* position_weights, const TensorView& x);
Backend to_backend(syncbn_backend backend);
TensorView to_view(const syncbn_tensor* tensor, const char* name);
std::optional<TensorView> to_optional_view(const syncbn_tensor* tensor, const char* name);
// These take NULL for the defaults.
SYNCBN_INTERNAL_API Deadlines to_deadlines(const syncbn_communicator_options* options);
SYNCBN_INTERNAL_API syncbn_exchange exchange_of(const syncbn_communicator_options* options);
Device to_device(syncbn_device device);
/// Throws InvalidArgument if two of the arrays share a byte. `names` are all of theirs.
void require_apart(std::span<const std::span<const double>> arrays, const char* names);
/// Takes 0 and 1.
bool to_flag(int flag, const char* name);

/// Returns what calls the program's functions; empty if both are NULL.
std::function<std::shared_ptr<void>(std::size_t)> to_allocate(
    void* (*allocate)(std::size_t bytes, void* user), void (*release)(void* memory, void* user),
    void* user);
std::optional<double> to_momentum(double momentum);

/// Holds what a C program's options say.
struct LayerOptions {
  BatchNormOptions options;
  LayerMemory memory;  ///< says how to allocate
};
/// Takes NULL for the defaults.
LayerOptions to_options(const syncbn_options* given);

}  // namespace syncbn::capi
