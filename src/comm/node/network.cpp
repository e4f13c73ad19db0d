// SPDX-License-Identifier: Apache-2.0
#include "comm/node/network.hpp"

namespace syncbn::comm::node {

std::string whom_it_waits_for(Network& network) {
  const std::string news = network.news();
  return network.missing() + (news.empty() ? "" : "\n  " + news);
}

void WaitsFor::write(Network& network, std::chrono::steady_clock::duration waited) {
  if (waited < next_) {
    network.news();  // throws if another node has given up
    return;
  }
  next_ = waited + interval_;
  if (waited < interval_) {
    return;
  }
  if (const std::string text = whom_it_waits_for(network); text != text_) {
    text_ = text;
    own_.waits_for.write(text);
  }
}

void WaitsFor::erase() {
  next_ = {};
  if (!text_.empty()) {
    text_.clear();
    own_.waits_for.write("");
  }
}

}  // namespace syncbn::comm::node
