// SPDX-License-Identifier: Apache-2.0
#include <thread>

#include "app/threads.hpp"

namespace syncbn::app {

int processor_count() {
  return static_cast<int>(std::thread::hardware_concurrency());
}

int thread_count() {
  return 1;
}

int default_thread_count(int, int) {
  return 1;
}

bool set_thread_count(int threads) {
  return threads == 1;
}

void on_all_threads(const std::function<void(int thread, int threads)>& body) {
  body(0, 1);
}

}  // namespace syncbn::app
