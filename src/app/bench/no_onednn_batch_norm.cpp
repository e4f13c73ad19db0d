// SPDX-License-Identifier: Apache-2.0
#include "syncbn/error.hpp"

#include "app/bench/onednn_batch_norm.hpp"

namespace syncbn::app::bench {

struct OneDnnBatchNorm::Primitives {};

std::string onednn_version() {
  return "no";
}

OneDnnBatchNorm::OneDnnBatchNorm(DType, const Shape&, Layout, double) {
  throw NotConfigured("no oneDNN (built without it). Configure with -DSYNCBN_ONEDNN=ON.");
}

OneDnnBatchNorm::~OneDnnBatchNorm() = default;

void OneDnnBatchNorm::forward(const void*, void*) {}
void OneDnnBatchNorm::backward(const void*, const void*, void*) {}

}  // namespace syncbn::app::bench
