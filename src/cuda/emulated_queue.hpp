// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <semaphore.h>
#include <utility>

namespace syncbn::cuda {

/// A queue of work that one thread does in the order in which any threads put it there. What the
/// thread does is ordered behind the call that put the work there, and behind nothing else: with a
/// mutex, work would also seem to be ordered before whatever the host does next, and the thread
/// sanitizer would not see that nobody waits for it.
class WorkQueue {
 public:
  using Work = std::function<void()>;

  WorkQueue() = default;
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;
  /// The queue is empty.
  ~WorkQueue() { delete taken_; }

  void put(Work work) {
    auto* const added = new Entry(std::move(work));
    Entry* const before = last_.exchange(added, std::memory_order_acq_rel);
    before->next = added;
    sem_post(&before->followed);
  }

  /// Waits for work and returns it.
  Work take() {
    while (sem_wait(&taken_->followed) != 0) {  // a signal ends it, too
    }
    delete std::exchange(taken_, taken_->next);
    return std::move(taken_->work);
  }

 private:
  struct Entry {
    explicit Entry(Work of) : work(std::move(of)) { sem_init(&followed, 0, 0); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() { sem_destroy(&followed); }

    Work work;
    Entry* next = nullptr;
    sem_t followed;  ///< posted once `next` is there
  };

  Entry* taken_ = new Entry(nullptr);  ///< the one taken last
  std::atomic<Entry*> last_{taken_};
};

}  // namespace syncbn::cuda
