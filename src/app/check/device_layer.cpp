// SPDX-License-Identifier: Apache-2.0
#include <span>
#include <utility>

#include "syncbn/device_batch_norm.hpp"

#include "app/check/layer.hpp"
#include "cuda/device_buffer.hpp"

namespace syncbn::app::check {
namespace {

/// A DeviceTensor is a copy of a tensor in the device's memory; one without elements takes none.
class DeviceTensor {
 public:
  DeviceTensor(Tensor host, cuda::StreamView stream)
      : host_(std::move(host)),
        memory_(host_.bytes().empty() ? cuda::DeviceBuffer()
                                      : cuda::DeviceBuffer(host_.bytes().size())) {
    if (memory_.bytes() > 0) {
      memory_.upload(host_.bytes(), stream);
    }
  }

  TensorView view() {
    const TensorView host = host_.view();
    return {memory_.data(), host.dtype(), host.shape(), host.layout()};
  }

  /// Returns what the tensor holds once the stream has done its work so far.
  Values values(cuda::StreamView stream) {
    if (memory_.bytes() > 0) {
      memory_.download(host_.bytes(), stream);
      stream.synchronize();
    }
    return host_.values();
  }

 private:
  Tensor host_;
  cuda::DeviceBuffer memory_;
};

/// A DeviceWeight holds the weights of a shard's samples on the device; null without any.
class DeviceWeight {
 public:
  DeviceWeight(std::span<const float> weight, cuda::StreamView stream) {
    if (!weight.empty()) {
      memory_ = cuda::DeviceBuffer(weight.size_bytes());
      memory_.upload(std::as_bytes(weight), stream);
    }
  }
  const float* get() const { return memory_.as<float>(); }

 private:
  cuda::DeviceBuffer memory_;
};

/// CaseTensors are a rank's tensors of one step. In place, y begins as x and dx as dy.
struct CaseTensors {
  DeviceTensor x, dy, y, dx;
  DeviceTensor residual, dresidual;  ///< without samples if the case has no residual
  DeviceWeight weight;

  CaseTensors(const Case& one, const Shard& shard, const Batch& batch, cuda::StreamView stream)
      : x({one, shard, batch.x}, stream),
        dy({one, shard, batch.dy}, stream),
        y(one.memory == Memory::apart ? Tensor(one, shard) : Tensor(one, shard, batch.x), stream),
        dx(one.memory == Memory::apart ? Tensor(one, shard) : Tensor(one, shard, batch.dy), stream),
        residual(one.residual ? Tensor(one, shard, batch.residual) : Tensor(one, Shard{}), stream),
        dresidual({one, one.residual ? shard : Shard{}}, stream),
        weight(weight_of(one, batch, shard), stream) {}
};

class DeviceLayer final : public Layer {
 public:
  DeviceLayer(const Case& one, const Parameters& parameters, const Shard& shard,
              const DeviceCommunicator& ranks)
      : one_(one), shard_(shard), layer_(one.shape.c, ranks, options_of(one)) {
    cuda::upload(std::as_bytes(std::span(parameters.gamma)), layer_.weight(), stream_.get());
    cuda::upload(std::as_bytes(std::span(parameters.beta)), layer_.bias(), stream_.get());
  }

  StepResults train(const Batch& batch) override {
    const cuda::StreamView stream(stream_.get());
    CaseTensors tensors(one_, shard_, batch, stream);
    layer_.zero_grad(stream);
    forward(tensors);
    backward(tensors);
    layer_.communicator().synchronize(stream);  // this throws if a rank is missing
    return {.y = tensors.y.values(stream),
            .dx = tensors.dx.values(stream),
            .dresidual = tensors.dresidual.values(stream),
            .weight_grad = fetch(layer_.weight_grad()),
            .bias_grad = fetch(layer_.bias_grad()),
            .running_mean = fetch(layer_.running_mean()),
            .running_var = fetch(layer_.running_var())};
  }

 private:
  void forward(CaseTensors& tensors) {
    const TensorView x = one_.memory == Memory::apart ? tensors.x.view() : tensors.y.view();
    if (one_.memory == Memory::recovered) {
      layer_.forward_in_place(x, saved_, stream_.get(), tensors.weight.get());
    } else if (one_.residual) {
      layer_.forward(x, tensors.residual.view(), tensors.y.view(), saved_, stream_.get(),
                     tensors.weight.get());
    } else {
      layer_.forward(x, tensors.y.view(), saved_, stream_.get(), tensors.weight.get());
    }
  }

  void backward(CaseTensors& tensors) {
    const TensorView dy = one_.memory == Memory::apart ? tensors.dy.view() : tensors.dx.view();
    if (one_.memory == Memory::recovered) {
      layer_.backward_in_place(saved_, tensors.y.view(), dy, tensors.dx.view(), stream_.get(),
                               tensors.weight.get());
    } else if (one_.residual) {
      layer_.backward(saved_, tensors.x.view(), tensors.y.view(), dy, tensors.dx.view(),
                      tensors.dresidual.view(), stream_.get(), tensors.weight.get());
    } else {
      layer_.backward(saved_, tensors.x.view(), dy, tensors.dx.view(), stream_.get(),
                      tensors.weight.get());
    }
  }

  /// Copies an array [C] of the layer's to the host.
  std::vector<double> fetch(const double* array) const {
    std::vector<double> values(static_cast<std::size_t>(one_.shape.c));
    cuda::download(array, std::as_writable_bytes(std::span(values)), stream_.get());
    cuda::StreamView(stream_.get()).synchronize();
    return values;
  }

  Case one_;
  Shard shard_;
  cuda::Stream stream_ = cuda::make_stream();
  DeviceBatchNorm layer_;
  DeviceSaved saved_;
};

}  // namespace

LayerMaker layers_on_device(const DeviceCommunicator& all, const DeviceCommunicator& own) {
  return [all, own](const Case& one, const Parameters& parameters, const Shard& shard,
                    Ranks ranks) -> std::unique_ptr<Layer> {
    return std::make_unique<DeviceLayer>(one, parameters, shard, ranks == Ranks::all ? all : own);
  };
}

}  // namespace syncbn::app::check
