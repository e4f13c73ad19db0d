// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/device/device_sums.hpp"
#include "comm/device/plain_device_sum.hpp"
#include "comm/device/stamped_sum.hpp"
#include "comm/group/deadlines.hpp"

namespace syncbn::comm {
namespace {

class CustomDeviceSum final : public PlainDeviceSum {
 public:
  CustomDeviceSum(DeviceCommunicator::AllReduce all_reduce, DeviceCommunicator::Abort abort)
      : all_reduce_(std::move(all_reduce)), abort_(std::move(abort)) {}

  void all_reduce(double* values, std::size_t count, CUstream_st* stream) override {
    if (is_aborted_.load()) {
      throw CommError("a sum after the communicator was aborted");
    }
    std::string why;
    try {
      all_reduce_(values, count, stream);
      return;
    } catch (const DeviceError&) {
      throw;
    } catch (const std::exception& error) {
      why = error.what();
    } catch (...) {
      why = "an exception of unknown type";
    }
    throw CommError("the all_reduce callback threw: " + why);
  }

  std::string trouble() override { return ""; }

  void abort() noexcept override {
    if (is_aborted_.exchange(true) || !abort_) {
      return;
    }
    try {
      abort_();
    } catch (const std::exception& error) {
      report(std::string("the abort callback threw: ") + error.what());
    } catch (...) {
      report("the abort callback threw an exception of unknown type");
    }
  }

  std::unique_ptr<PlainDeviceSum> split(int) override {
    throw NotConfigured(
        "a custom communicator cannot be split (its callback always sums over the whole group). "
        "Make the sub-group in your own library and wrap it.");
  }

 private:
  DeviceCommunicator::AllReduce all_reduce_;
  DeviceCommunicator::Abort abort_;
  std::atomic<bool> is_aborted_{false};
};

}  // namespace

std::unique_ptr<DeviceSum> custom_sum(const Communicator& host,
                                      DeviceCommunicator::AllReduce all_reduce, Deadlines deadlines,
                                      DeviceCommunicator::Abort abort) {
  if (!all_reduce) {
    throw InvalidArgument("the all_reduce callback is empty");
  }
  if (host.size() == 1) {
    return self_sum();
  }
  return stamped_sum(
      host, std::make_unique<CustomDeviceSum>(std::move(all_reduce), std::move(abort)), deadlines);
}

}  // namespace syncbn::comm
