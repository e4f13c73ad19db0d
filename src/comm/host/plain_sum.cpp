// SPDX-License-Identifier: Apache-2.0
#include "comm/host/plain_sum.hpp"

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>
#include <vector>

#include "syncbn/error.hpp"

#include "comm/group/fingerprint.hpp"
#include "comm/host/in_flight.hpp"

namespace syncbn::comm {
namespace {

class WithFingerprints final : public Transport {
 public:
  explicit WithFingerprints(std::unique_ptr<PlainSum> sum) : sum_(std::move(sum)) {}

  int rank() const override { return sum_->rank(); }
  int size() const override { return sum_->size(); }

  Ticket start(const Message& message, std::span<double> data) override {
    const std::uint64_t plan =
        stamped({.subject = message.what.subject, .count = message.what.count}, 0, message.length)
            .fingerprint;
    if (!known_.contains(plan)) {
      FingerprintWords words = to_words(message.fingerprint);
      sum_->finish(sum_->start(message, words));
      require_agreement(message, words);
      if (known_.size() == most_known) {
        known_.clear();  // all ranks do so at the same message
      }
      known_.insert(plan);
    }
    const Ticket ticket = in_flight_.take();
    Sent& sent = in_flight_[ticket];
    sent.message = message;
    sent.data = data;
    const FingerprintWords words = to_words(message.fingerprint);
    sent.values.assign(data.begin(), data.end());
    sent.values.insert(sent.values.end(), words.begin(), words.end());
    sent.started = sum_->start(message, sent.values);
    return ticket;
  }

  bool arrived(Ticket ticket) override { return sum_->arrived(in_flight_[ticket].started); }

  void finish(Ticket ticket) override {
    Sent& sent = in_flight_[ticket];
    sum_->finish(sent.started);
    require_agreement(sent.message, std::span(sent.values).last<fingerprint_words>());
    std::copy_n(sent.values.begin(), sent.data.size(), sent.data.begin());
    in_flight_.release(ticket);
  }

  void give_up(std::string_view why) noexcept override { sum_->give_up(why); }
  void refuse(std::string_view why) noexcept override { sum_->refuse(why); }

  std::unique_ptr<Transport> split(std::span<const int> colors) override {
    return with_fingerprints(sum_->split(colors));
  }

 private:
  void require_agreement(const Message& message,
                         std::span<const double, fingerprint_words> summed) {
    if (all_equal(summed.data(), message.fingerprint, size())) {
      return;
    }
    std::vector<double> packed(static_cast<std::size_t>(size()) * descriptor_words, 0.0);
    pack(message.what, message.sequence,
         std::span(packed).subspan(static_cast<std::size_t>(rank()) * descriptor_words,
                                   descriptor_words));
    sum_->finish(sum_->start(message, packed));
    throw CommError(describe_disagreement(*message.what.operation, packed));
  }

  struct Sent {
    Message message;
    std::span<double> data;
    std::vector<double> values;  ///< of the data, then the fingerprint's
    std::size_t started = 0;
  };

  std::unique_ptr<PlainSum> sum_;
  /// Bounds the memory where a program names its subjects anew at every step.
  static constexpr std::size_t most_known = 8192;
  std::unordered_set<std::uint64_t> known_;  ///< fingerprints of (subject, count, length) in use
  InFlight<Sent> in_flight_;
};

}  // namespace

std::unique_ptr<Transport> with_fingerprints(std::unique_ptr<PlainSum> sum) {
  return std::make_unique<WithFingerprints>(std::move(sum));
}

}  // namespace syncbn::comm
