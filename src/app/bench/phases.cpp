// SPDX-License-Identifier: Apache-2.0
#include "app/bench/phases.hpp"

namespace syncbn::app::bench {
namespace {

struct PhaseInfo {
  std::string_view name;
  int passes;
};

PhaseInfo info(Phase phase) {
  switch (phase) {
    case Phase::copy:
      return {"copy", 2};
    case Phase::streaming_copy:
      return {"streaming_copy", 2};
    case Phase::read:
      return {"read", 1};
    case Phase::sums:
      return {"sums", 1};
    case Phase::exchange:
      return {"exchange", 0};
    case Phase::normalize:
      return {"normalize", 2};
    case Phase::forward:
      return {"forward", 3};
    case Phase::backward_sums:
      return {"backward_sums", 2};
    case Phase::input_gradient:
      return {"input_gradient", 3};
    case Phase::backward:
      return {"backward", 5};
    case Phase::local_forward:
      return {"local_forward", 3};
    case Phase::local_backward:
      return {"local_backward", 5};
    case Phase::exact_forward:
      return {"exact_forward", 3};
    case Phase::exact_backward:
      return {"exact_backward", 5};
    case Phase::onednn_forward:
      return {"onednn_forward", 3};
    case Phase::onednn_backward:
      return {"onednn_backward", 5};
  }
  return {"?", 0};
}

}  // namespace

std::string_view to_string(Phase phase) {
  return info(phase).name;
}

int passes(Phase phase) {
  return info(phase).passes;
}

}  // namespace syncbn::app::bench
