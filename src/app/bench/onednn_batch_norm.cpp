// SPDX-License-Identifier: Apache-2.0
//
// oneDNN 2.6 and 3.x differ in how a primitive is described; only `describe_forward` and
// `describe_backward` know.
#include "app/bench/onednn_batch_norm.hpp"

#include <algorithm>
#include <vector>

#include <dnnl.hpp>
#include <fmt/format.h>

#include "syncbn/error.hpp"

#include "app/threads.hpp"

namespace syncbn::app::bench {
namespace {

using Forward = dnnl::batch_normalization_forward;
using Backward = dnnl::batch_normalization_backward;
using dnnl::memory;

const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;

#if DNNL_VERSION_MAJOR >= 3
Forward::primitive_desc describe_forward(const dnnl::engine& engine, const memory::desc& tensor,
                                         float eps) {
  return {engine, dnnl::prop_kind::forward_training, tensor, tensor, eps, flags};
}

Backward::primitive_desc describe_backward(const dnnl::engine& engine, const memory::desc& tensor,
                                           float eps, const Forward::primitive_desc& forward) {
  return {engine, dnnl::prop_kind::backward, tensor, tensor, tensor, eps, flags, forward};
}
#else
Forward::primitive_desc describe_forward(const dnnl::engine& engine, const memory::desc& tensor,
                                         float eps) {
  return {{dnnl::prop_kind::forward_training, tensor, eps, flags}, engine};
}

Backward::primitive_desc describe_backward(const dnnl::engine& engine, const memory::desc& tensor,
                                           float eps, const Forward::primitive_desc& forward) {
  return {{dnnl::prop_kind::backward, tensor, tensor, eps, flags}, engine, forward};
}
#endif

memory::data_type type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return memory::data_type::f32;
    case DType::f16:
      return memory::data_type::f16;
    case DType::bf16:
      return memory::data_type::bf16;
    case DType::f64:
      break;
  }
  throw NotConfigured(
      fmt::format("oneDNN {} has no batch normalization of f64.", onednn_version()));
}

memory::desc tensor_desc(DType dtype, const Shape& shape, Layout layout) {
  return {{shape.n, shape.c, shape.s, 1},
          type_of(dtype),
          layout == Layout::channels_first ? memory::format_tag::nchw : memory::format_tag::nhwc};
}

/// Throws NotConfigured if this oneDNN would use more or fewer threads than this library. PyPI's
/// build uses TBB's threads, one for each processor that the process may run on.
void require_same_threads() {
#if DNNL_CPU_THREADING_RUNTIME == DNNL_RUNTIME_TBB
  const int processors = processor_count();
  if (processors != thread_count()) {
    throw NotConfigured(fmt::format(
        "oneDNN {} would start a thread on each of the {} processors that this rank may "
        "run on, not {} (it uses TBB). Give --threads {}, or the rank fewer by taskset.",
        onednn_version(), processors, thread_count(), processors));
  }
#endif
}

/// Throws NotConfigured if this oneDNN computes through SYCL, as PyPI's build does, which finds no
/// processor.
void require_processor() {
#if DNNL_CPU_RUNTIME == DNNL_RUNTIME_SYCL
  if (dnnl::engine::get_count(dnnl::engine::kind::cpu) == 0) {
    throw NotConfigured(
        fmt::format("oneDNN {} finds no processor (it asks OpenCL for one, through SYCL). Set "
                    "OCL_ICD_FILENAMES to the libintelocl.so that came with it.",
                    onednn_version()));
  }
#endif
}

/// oneDNN takes inputs as void* as well.
void* writable(const void* data) {
  return const_cast<void*>(data);
}

}  // namespace

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

struct OneDnnBatchNorm::Primitives {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  memory::desc tensor;
  memory::desc channels;
  Forward::primitive_desc forward_desc;
  Backward::primitive_desc backward_desc;
  Forward forward;
  Backward backward;
  memory mean, variance, scale, shift, diff_scale, diff_shift;

  Primitives(DType dtype, const Shape& shape, Layout layout, float eps)
      : tensor(tensor_desc(dtype, shape, layout)),
        channels({shape.c}, memory::data_type::f32, memory::format_tag::a),
        forward_desc(describe_forward(engine, tensor, eps)),
        backward_desc(describe_backward(engine, tensor, eps, forward_desc)),
        forward(forward_desc),
        backward(backward_desc),
        mean(channels, engine),
        variance(channels, engine),
        scale(channels, engine),
        shift(channels, engine),
        diff_scale(channels, engine),
        diff_shift(channels, engine) {
    const auto count = static_cast<std::size_t>(shape.c);
    std::fill_n(static_cast<float*>(scale.get_data_handle()), count, 1.0F);
    std::fill_n(static_cast<float*>(shift.get_data_handle()), count, 0.0F);
  }

  memory at(const void* data) const { return {tensor, engine, writable(data)}; }
};

OneDnnBatchNorm::OneDnnBatchNorm(DType dtype, const Shape& shape, Layout layout, double eps) {
  require_same_threads();
  try {
    primitives_ = std::make_unique<Primitives>(dtype, shape, layout, static_cast<float>(eps));
  } catch (const dnnl::error& error) {
    require_processor();
    throw NotConfigured(fmt::format("oneDNN {} has no batch normalization of {} here ({}).",
                                    onednn_version(), to_string(dtype), error.what()));
  }
  implementation_ =
      fmt::format("{} ({})", onednn_version(), primitives_->forward_desc.impl_info_str());
}

OneDnnBatchNorm::~OneDnnBatchNorm() = default;

void OneDnnBatchNorm::forward(const void* x, void* y) {
  Primitives& p = *primitives_;
  p.forward.execute(p.stream, {{DNNL_ARG_SRC, p.at(x)},
                               {DNNL_ARG_DST, p.at(y)},
                               {DNNL_ARG_MEAN, p.mean},
                               {DNNL_ARG_VARIANCE, p.variance},
                               {DNNL_ARG_SCALE, p.scale},
                               {DNNL_ARG_SHIFT, p.shift}});
  p.stream.wait();
}

void OneDnnBatchNorm::backward(const void* x, const void* dy, void* dx) {
  Primitives& p = *primitives_;
  p.backward.execute(p.stream, {{DNNL_ARG_SRC, p.at(x)},
                                {DNNL_ARG_DIFF_DST, p.at(dy)},
                                {DNNL_ARG_DIFF_SRC, p.at(dx)},
                                {DNNL_ARG_MEAN, p.mean},
                                {DNNL_ARG_VARIANCE, p.variance},
                                {DNNL_ARG_SCALE, p.scale},
                                {DNNL_ARG_SHIFT, p.shift},
                                {DNNL_ARG_DIFF_SCALE, p.diff_scale},
                                {DNNL_ARG_DIFF_SHIFT, p.diff_shift}});
  p.stream.wait();
}

}  // namespace syncbn::app::bench
