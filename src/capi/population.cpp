// SPDX-License-Identifier: Apache-2.0
#include "syncbn/population.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "capi/guarded.hpp"
#include "capi/handles.hpp"
#include "capi/structs.hpp"

using namespace syncbn;
using capi::guarded;
using capi::require;
using capi::to_span;

syncbn_status syncbn_population_new(int64_t channels, syncbn_population** out) {
  return guarded([&] {
    require(out, "out");
    *out = new syncbn_population{PopulationStatistics(channels)};
  });
}

void syncbn_population_free(syncbn_population* population) {
  delete population;
}

syncbn_status syncbn_population_add(syncbn_population* population, const syncbn_tensor* x,
                                    const float* position_weights) {
  return guarded([&] {
    require(population, "population");
    const TensorView view = capi::to_view(x, "x");
    population->statistics.add(view, capi::to_weight(position_weights, view));
  });
}

syncbn_status syncbn_population_finish(const syncbn_population* population,
                                       const syncbn_communicator* group, double* mean, double* var,
                                       double* count) {
  return guarded([&] {
    require(population, "population");
    require(group, "group");
    const auto channels = static_cast<std::size_t>(population->statistics.channels());
    const std::span<double> means = to_span(mean, channels, "mean");
    const std::span<double> vars = to_span(var, channels, "var");
    const std::span<double> counts = to_span(count, 1, "count");
    capi::require_apart(std::array<std::span<const double>, 3>{means, vars, counts},
                        "mean, var and count");
    const Statistics found = population->statistics.finish(group->group);
    std::ranges::copy(found.mean, means.begin());
    std::ranges::copy(found.var, vars.begin());
    counts[0] = found.count;
  });
}

syncbn_status syncbn_batch_norm_set_running_statistics(syncbn_batch_norm* layer, const double* mean,
                                                       const double* var, double count,
                                                       syncbn_cuda_stream stream) {
  return guarded([&] {
    require(layer, "layer");
    const auto channels = static_cast<std::size_t>(layer->layer.channels());
    const std::span<const double> means = to_span(mean, channels, "mean");
    const std::span<const double> vars = to_span(var, channels, "var");
    layer->layer.set_running_statistics({.mean = {means.begin(), means.end()},
                                         .var = {vars.begin(), vars.end()},
                                         .invstd = {},
                                         .count = count},
                                        stream);
  });
}
