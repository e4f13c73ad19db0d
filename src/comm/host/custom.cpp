// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "syncbn/communicator.hpp"
#include "syncbn/error.hpp"

#include "comm/group/group.hpp"
#include "comm/host/plain_sum.hpp"

namespace syncbn {
namespace comm {
namespace {

class CustomSum final : public PlainSum {
 public:
  CustomSum(int rank, int size, Communicator::AllReduce all_reduce)
      : all_reduce_(std::move(all_reduce)), rank_(rank), size_(size) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::size_t start(const Message&, std::span<double> values) override {
    all_reduce_(values);
    return 0;
  }
  bool arrived(std::size_t) override { return true; }
  void finish(std::size_t) override {}
  void give_up(std::string_view) noexcept override {}
  std::unique_ptr<PlainSum> split(std::span<const int>) override {
    if (size_ == 1) {
      return std::make_unique<CustomSum>(0, 1, all_reduce_);
    }
    throw NotConfigured(
        "a custom communicator cannot be split (its callback always sums over the whole group). "
        "Make the sub-group in your own library and wrap it.");
  }

 private:
  Communicator::AllReduce all_reduce_;
  int rank_;
  int size_;
};

}  // namespace
}  // namespace comm

Communicator Communicator::custom(int rank, int size, AllReduce all_reduce) {
  if (size < 1 || rank < 0 || rank >= size) {
    throw InvalidArgument("rank " + std::to_string(rank) + " of " + std::to_string(size) +
                          " (a rank lies between 0 and size - 1)");
  }
  if (!all_reduce) {
    throw InvalidArgument("the all_reduce callback is empty");
  }
  return Communicator(std::make_shared<comm::Group>(comm::with_fingerprints(
      std::make_unique<comm::CustomSum>(rank, size, std::move(all_reduce)))));
}

}  // namespace syncbn
