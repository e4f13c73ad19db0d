// SPDX-License-Identifier: Apache-2.0
#include "python/extension/phases.hpp"

#include <optional>
#include <vector>

#include "syncbn/batch_norm.hpp"
#include "syncbn/phases.hpp"

#include "python/extension/tensor.hpp"
#include "python/extension/type.hpp"

namespace syncbn::python {

PyObject* local_sums(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return guarded([&] {
    require_count("local_sums", count, 2);
    const TensorView x = tensor_view(arguments[0], "x");
    const PositionWeights weights = weights_view(arguments[1], "position_weights");
    std::vector<double> sums(sums_length(x.shape().c));
    {
      const Released python;
      const std::vector<double> pivot(static_cast<std::size_t>(x.shape().c));
      forward_sums(x, pivot, sums, weights);
    }
    const std::span<const std::byte> bytes = std::as_bytes(std::span(sums));
    return checked(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(bytes.data()),
                                             static_cast<Py_ssize_t>(bytes.size())));
  });
}

PyObject* normalize(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return guarded([&] {
    require_count("normalize", count, 8);
    const auto& record = Wrapper<ForwardRecord>::of(arguments[0]);
    const Affine affine{array_view(arguments[1], "weight"), array_view(arguments[2], "bias")};
    const Activation activation{to_double(arguments[3])};
    const TensorView x = tensor_view(arguments[4], "x");
    const TensorView y = tensor_view(arguments[5], "y");
    const std::optional<TensorView> residual = tensor_view_if(arguments[6], "residual");
    const PositionWeights weights = weights_view(arguments[7], "position_weights");
    {
      const Released python;
      syncbn::normalize(x, {record.mean(), record.invstd()}, affine, activation, residual, y,
                        weights);
    }
    return none();
  });
}

}  // namespace syncbn::python
