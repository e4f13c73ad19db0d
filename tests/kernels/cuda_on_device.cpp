// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda_on_device.hpp"

#include <vector>

#include "syncbn/phases.hpp"

#include "cuda/device_buffer.hpp"
#include "cuda/stream.hpp"
#include "kernels/cuda/cuda.hpp"

namespace syncbn::test {
namespace {

namespace cuda = kernels::cuda;

// Copies that live as long as a call.
class Session {
 public:
  Session() : stream_(syncbn::cuda::make_stream()) {}

  cuda::Stream stream() const { return stream_.get(); }

  void* room(std::size_t bytes) { return buffers_.emplace_back(bytes + 1).data(); }

  const void* copy(const void* from, std::size_t bytes) {
    if (from == nullptr) {
      return nullptr;
    }
    room(bytes);
    buffers_.back().upload({static_cast<const std::byte*>(from), bytes}, stream());
    return buffers_.back().data();
  }
  template <class T>
  const T* copy(const T* from, std::int64_t count) {
    const void* data = from;
    return static_cast<const T*>(copy(data, static_cast<std::size_t>(count) * sizeof(T)));
  }
  ConstTensorView copy(const ConstTensorView& x) {
    return {copy(x.data(), bytes_of(x)), x.dtype(), x.shape(), x.layout()};
  }
  kernels::Upstream copy(kernels::Upstream of) {
    const ConstTensorView x = of.data;
    const std::int64_t channels = x.shape().c;
    of.data = copy(x);
    of.dy = copy(of.dy, bytes_of(x));
    of.y = copy(of.y, bytes_of(x));
    of.weight = copy(of.weight, x.shape().per_channel());
    of.mean = copy(of.mean, channels);
    of.scale = copy(of.scale, channels);
    of.shift = copy(of.shift, channels);
    return of;
  }

  void fetch(void* to, const void* from, std::size_t bytes) {
    for (const syncbn::cuda::DeviceBuffer& buffer : buffers_) {
      if (to != nullptr && buffer.data() == from) {
        buffer.download({static_cast<std::byte*>(to), bytes}, stream());
      }
    }
    syncbn::cuda::StreamView(stream()).synchronize();
  }

  static std::size_t bytes_of(const ConstTensorView& x) {
    return static_cast<std::size_t>(x.shape().size()) * size_of(x.dtype());
  }

 private:
  syncbn::cuda::Stream stream_;
  std::vector<syncbn::cuda::DeviceBuffer> buffers_;
};

// Calls launch(on_device, workspace) and copies to `sums` what it leaves there.
template <class Launch>
void with_sums(Session& session, const ConstTensorView& x, double* sums, Launch launch) {
  const std::size_t bytes = sums_length(x.shape().c) * sizeof(double);
  auto* on_device = static_cast<double*>(session.room(bytes));
  launch(on_device, session.room(cuda::workspace_bytes(x.shape(), x.dtype(), x.layout())));
  session.fetch(sums, on_device, bytes);
}

constexpr kernels::Kernels table{
    .forward_sums =
        [](const kernels::ForwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          Session session;
          const ConstTensorView x = session.copy(of.x);
          const float* weight = session.copy(of.weight, x.shape().per_channel());
          const double* pivot = session.copy(of.pivot, x.shape().c);
          with_sums(session, x, of.sums, [&](double* sums, void* workspace) {
            cuda::forward_sums({x, weight, pivot, sums}, workspace, session.stream());
          });
        },
    .normalize =
        [](const kernels::Normalize& of, const kernels::ChannelRange&, const kernels::Run&) {
          Session session;
          const std::size_t bytes = Session::bytes_of(of.x);
          const std::int64_t channels = of.x.shape().c;
          void* y = session.room(bytes);
          cuda::normalize({.x = session.copy(of.x),
                           .weight = session.copy(of.weight, of.x.shape().per_channel()),
                           .mean = session.copy(of.mean, channels),
                           .scale = session.copy(of.scale, channels),
                           .shift = session.copy(of.shift, channels),
                           .residual = session.copy(of.residual, bytes),
                           .negative_slope = of.negative_slope,
                           .y = y},
                          session.stream());
          session.fetch(of.y, y, bytes);
        },
    .backward_sums =
        [](const kernels::BackwardSums& of, const kernels::ChannelRange&, const kernels::Run&) {
          Session session;
          const kernels::Upstream upstream = session.copy(of.upstream);
          with_sums(session, upstream.data, of.sums, [&](double* sums, void* workspace) {
            cuda::backward_sums({upstream, sums}, workspace, session.stream());
          });
        },
    .input_gradient =
        [](const kernels::InputGradient& of, const kernels::ChannelRange&, const kernels::Run&) {
          Session session;
          const std::size_t bytes = Session::bytes_of(of.upstream.data);
          const std::int64_t channels = of.upstream.data.shape().c;
          void* dx = session.room(bytes);
          void* dresidual = of.dresidual == nullptr ? nullptr : session.room(bytes);
          cuda::input_gradient({.upstream = session.copy(of.upstream),
                                .mean_dz = session.copy(of.mean_dz, channels),
                                .grad_slope = session.copy(of.grad_slope, channels),
                                .dx = dx,
                                .dresidual = dresidual},
                               session.stream());
          session.fetch(of.dx, dx, bytes);
          session.fetch(of.dresidual, dresidual, bytes);
        },
    .forward_in_fixed_point = nullptr,
    .backward_in_fixed_point = nullptr,
    .forward_magnitudes = nullptr,
    .backward_magnitudes = nullptr,
    .cache_bytes = nullptr,
    .least_channels = nullptr};

}  // namespace

const kernels::Kernels& cuda_on_device() {
  return table;
}

}  // namespace syncbn::test
