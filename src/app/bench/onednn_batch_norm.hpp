// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "syncbn/tensor_view.hpp"

namespace syncbn::app::bench {

/// Returns oneDNN's version, "2.6.3"; "no" in a build without oneDNN.
std::string onednn_version();

/// A OneDnnBatchNorm is oneDNN's batch normalization of this process's data, in training mode, with
/// scale and shift.
class OneDnnBatchNorm {
 public:
  /// Throws NotConfigured if this oneDNN cannot do it on this machine, or there is none.
  OneDnnBatchNorm(DType dtype, const Shape& shape, Layout layout, double eps);
  ~OneDnnBatchNorm();

  void forward(const void* x, void* y);
  void backward(const void* x, const void* dy, void* dx);

  /// Returns the implementation that oneDNN chose: "2.6.3 (bnorm_jit:avx512_core)".
  const std::string& implementation() const { return implementation_; }

 private:
  struct Primitives;
  std::unique_ptr<Primitives> primitives_;
  std::string implementation_;
};

}  // namespace syncbn::app::bench
