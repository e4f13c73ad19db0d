// SPDX-License-Identifier: Apache-2.0
#include "app/scale/windows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

#include "trainer/random.hpp"

namespace syncbn::app::scale {
namespace {

constexpr Nanoseconds batch_time = 20000000;  ///< between two looks at the results [ns]
constexpr std::size_t longest_batch = 64;     ///< repetitions between them
constexpr Nanoseconds least_window = 20000;
constexpr Nanoseconds between_synchronizations = 500000000;
constexpr double margin = 1.25;  ///< of a window, over what its task takes

/// One rank's notes of one task: when it came, when it left, and whether it came too late.
struct Note {
  Nanoseconds arrival, exit;
  bool late;
};

/// Windows takes the repetitions, a batch at a time.
class Windows {
 public:
  Windows(std::span<const std::function<void()>> tasks, const Communicator& group,
          CommonClock& clock)
      : tasks_(tasks), group_(group), clock_(clock), windows_(tasks.size()) {
    results_.tasks.resize(tasks.size());
    for (Measurement& task : results_.tasks) {
      task.arrivals.arrival.resize(static_cast<std::size_t>(group.size()));
      task.arrivals.exit.resize(static_cast<std::size_t>(group.size()));
    }
  }

  void warm_up() {
    std::vector<double> times(tasks_.size());
    for (int run = 0; run < 2; ++run) {  // the second one counts
      for (std::size_t task = 0; task < tasks_.size(); ++task) {
        const Nanoseconds begin = clock_.now();
        tasks_[task]();
        times[task] = static_cast<double>(clock_.now() - begin);
      }
    }
    const std::vector<double> all = group_.all_gather(times);
    for (std::size_t i = 0; i < all.size(); ++i) {
      Nanoseconds& window = windows_[i % tasks_.size()];
      window = std::max({window, least_window, std::lround(margin * all[i])});
    }
  }

  /// Collective. Takes a batch of repetitions, and tells every rank of all.
  void take_batch() {
    std::vector<Note> notes;
    Nanoseconds start = common_start();
    if (start - synchronized_at_ > between_synchronizations) {
      clock_.synchronize();
      start = common_start();
      synchronized_at_ = start;
    }
    const std::size_t batch = next_batch_;
    for (std::size_t i = 0; i < batch; ++i) {
      for (const std::size_t task : order_of_tasks(repetitions_)) {
        notes.push_back(take(task, start));
        start += windows_[task];
      }
      ++repetitions_;
    }
    keep(notes, batch);
  }

  std::size_t repetitions() const { return repetitions_; }

  bool precise(const StoppingRule& rule) const {
    return std::ranges::all_of(results_.tasks, [&](const Measurement& task) {
      const std::vector<double> times = rule.waiting_counts ? task.arrivals.from_first_arrival()
                                                            : task.arrivals.after_last_arrival();
      return is_enough(times.size(), median(times), rule.fewest, rule.wanted);
    });
  }

  Measurements results(bool enough) {
    results_.enough = enough;
    return std::move(results_);
  }

 private:
  /// Collective. Returns a moment shortly after all ranks have got to know of it.
  Nanoseconds common_start() {
    constexpr Nanoseconds least_notice = 50000;
    const Nanoseconds begin = clock_.now();
    std::vector<double> word{0.0};
    group_.all_reduce(word);  // shows how long it takes
    const Nanoseconds took = clock_.now() - begin;
    word[0] = group_.rank() == 0 ? static_cast<double>(clock_.now() + least_notice + 2 * took) : 0;
    group_.all_reduce(word);
    return std::lround(word[0]);
  }

  /// Returns the tasks in a random order, the same on all ranks.
  std::vector<std::size_t> order_of_tasks(std::size_t repetition) const {
    std::vector<std::size_t> order(tasks_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    trainer::shuffle(std::span(order), trainer::Random({repetition}));
    return order;
  }

  Note take(std::size_t task, Nanoseconds start) {
    constexpr Nanoseconds last_moment = 2000;  // in which the processor is not given away
    Nanoseconds now = clock_.now();
    const bool late = now > start;
    while (now < start) {
      if (start - now > last_moment) {
        std::this_thread::yield();  // to a rank of the same processor
      }
      now = clock_.now();
    }
    tasks_[task]();
    return {now, clock_.now(), late};
  }

  /// Collective. Adds all ranks' notes of a batch to the results.
  void keep(const std::vector<Note>& notes, std::size_t batch) {
    constexpr std::size_t numbers = 3;  // of a note
    std::vector<double> mine;
    for (const Note& note : notes) {
      mine.insert(mine.end(), {static_cast<double>(note.arrival), static_cast<double>(note.exit),
                               note.late ? 1.0 : 0.0});
    }
    const std::vector<double> all = group_.all_gather(mine);
    std::size_t note = 0;
    for (std::size_t i = repetitions_ - batch; i < repetitions_; ++i) {
      for (const std::size_t task : order_of_tasks(i)) {
        Measurement& result = results_.tasks[task];
        bool late = false;
        for (std::size_t rank = 0; rank < result.arrivals.ranks(); ++rank) {
          const double* numbers_of_note = &all[(rank * notes.size() + note) * numbers];
          result.arrivals.arrival[rank].push_back(std::lround(numbers_of_note[0]));
          result.arrivals.exit[rank].push_back(std::lround(numbers_of_note[1]));
          late = late || numbers_of_note[2] > 0;
        }
        result.late += late ? 1 : 0;
        ++note;
      }
    }
    adapt_windows(batch);
    adapt_batch(batch);
  }

  /// Sets how many repetitions come next: as many as fit into a batch's time, if they take as long
  /// as the last ones did, but at most twice as many as there were.
  void adapt_batch(std::size_t batch) {
    Nanoseconds begin = std::numeric_limits<Nanoseconds>::max();
    Nanoseconds end = 0;
    for (const Measurement& task : results_.tasks) {
      for (std::size_t rank = 0; rank < task.arrivals.ranks(); ++rank) {
        begin = std::min(begin, task.arrivals.arrival[rank][repetitions_ - batch]);
        end = std::max(end, task.arrivals.exit[rank].back());
      }
    }
    const Nanoseconds repetition =
        std::max<Nanoseconds>(1, (end - begin) / static_cast<Nanoseconds>(batch));
    next_batch_ = std::clamp<std::size_t>(static_cast<std::size_t>(batch_time / repetition), 1,
                                          std::min(2 * batch, longest_batch));
  }

  /// Makes windows as long as nine of ten repetitions of the last batch took.
  void adapt_windows(std::size_t batch) {
    for (std::size_t task = 0; task < tasks_.size(); ++task) {
      std::vector<double> times = results_.tasks[task].arrivals.from_first_arrival();
      times.erase(times.begin(), times.end() - static_cast<std::ptrdiff_t>(batch));
      std::ranges::sort(times);
      windows_[task] =
          std::max(least_window, std::lround(1e9 * margin * times[times.size() * 9 / 10]));
    }
  }

  std::span<const std::function<void()>> tasks_;
  Communicator group_;
  CommonClock& clock_;
  std::vector<Nanoseconds> windows_;  ///< length of each task's
  std::size_t repetitions_ = 0;
  std::size_t next_batch_ = 1;  ///< repetitions
  Nanoseconds synchronized_at_ = -between_synchronizations;
  Measurements results_;
};

}  // namespace

Measurements measure_in_windows(std::span<const std::function<void()>> tasks,
                                const Communicator& group, CommonClock& clock,
                                const StoppingRule& rule) {
  Windows windows(tasks, group, clock);
  windows.warm_up();
  const Nanoseconds begin = clock.now();
  for (;;) {
    windows.take_batch();
    // Rank 0's clock says whether time is up, so that all ranks end together.
    std::vector<double> seconds{group.rank() == 0 ? 1e-9 * static_cast<double>(clock.now() - begin)
                                                  : 0.0};
    group.all_reduce(seconds);
    const bool enough = windows.precise(rule);
    if (rule.ended_by(windows.repetitions(), seconds[0], enough)) {
      return windows.results(enough);
    }
  }
}

}  // namespace syncbn::app::scale
