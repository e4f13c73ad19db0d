// SPDX-License-Identifier: Apache-2.0
#include "comm/device/agreement.hpp"

#include <utility>

#include "syncbn/error.hpp"

#include "comm/device/device_message.hpp"
#include "comm/device/roll_call.hpp"
#include "comm/group/access.hpp"
#include "comm/group/group.hpp"
#include "comm/group/transport.hpp"

namespace syncbn::comm {

Agreement::Agreement(Communicator bootstrap, const Board& board)
    : bootstrap_(std::move(bootstrap)), board_(board) {}

Agreement::Plan Agreement::admit(const Descriptor& what, std::size_t length) {
  ++calls_;
  Descriptor lasting = what;
  lasting.facts = {};
  const std::uint64_t kind = stamped(lasting, 0, length).fingerprint;
  const bool has_facts = what.facts != lasting.facts;
  const std::uint64_t fingerprint = has_facts ? stamped(what, 0, length).fingerprint : kind;
  if (const auto number = numbers_.find(kind); number != numbers_.end()) {
    if (has_facts) {
      const std::scoped_lock lock(mutex_);
      plans_[number->second].what.facts = what.facts;
      plans_[number->second].fingerprint = fingerprint;
    }
    return {number->second, fingerprint};
  }
  std::string wrong;
  try {
    wrong = call_roll(Access::group(bootstrap_), {Standing::begins, what, calls_, fingerprint});
  } catch (const CommError& error) {
    wrong = error.what();
  }
  if (!wrong.empty()) {
    fail(wrong);
    conclude(what, wrong);
  }
  return {add(kind, what, fingerprint), fingerprint};
}

std::uint64_t Agreement::add(std::uint64_t kind, const Descriptor& what,
                             std::uint64_t fingerprint) {
  const std::scoped_lock lock(mutex_);
  Known& plan = plans_.emplace_back();
  plan.subject = what.subject;
  plan.options = what.options;
  plan.what = what;
  plan.fingerprint = fingerprint;
  const std::uint64_t number = plans_.size() - 1;
  numbers_.emplace(kind, number);
  return number;
}

void Agreement::fail(std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (reason_.empty()) {
    reason_ = why;
  }
  failed_.store(true, std::memory_order_release);
}

void Agreement::poll() {
  if (!failure_.empty()) {
    throw CommError("this communicator is unusable (an earlier sum failed: " + failure_ +
                    "). Make a new one.");
  }
  if (failed() || look(board_.disagreed) != 0) {
    find_out_why();
  }
}

void Agreement::find_out_why() {
  const bool waited = failed();
  const std::uint64_t number = look(waited ? board_.started : board_.disagreed);
  const Known plan = known(look(waited ? board_.started_plan : board_.disagreed_plan));
  Descriptor what = plan.what;
  what.subject = plan.subject;
  what.options = plan.options;
  if (!waited && board_.disagreed_state != 0) {
    what.facts[fact_on_device] = board_.disagreed_state;
  }

  std::string why;
  if (waited) {
    const std::scoped_lock lock(mutex_);
    why = reason_ + "\n";
  }
  try {
    const Standing standing = waited ? Standing::waited : Standing::disagreed;
    why += call_roll(Access::group(bootstrap_),
                     {standing, what, static_cast<std::int64_t>(number), plan.fingerprint});
  } catch (const CommError& error) {
    why += error.what();
  }
  fail(why);
  conclude(what, std::move(why));
}

void Agreement::conclude(const Descriptor& what, std::string why) {
  failure_ = std::move(why);
  throw CommError(heading(what) + ": " + failure_);
}

Agreement::Known Agreement::known(std::uint64_t plan) const {
  const std::scoped_lock lock(mutex_);
  return plan < plans_.size() ? plans_[plan] : Known();
}

std::string Agreement::heading(const Descriptor& what) const {
  return "rank " + std::to_string(bootstrap_.rank()) + " of " + std::to_string(bootstrap_.size()) +
         ", " + describe(what);
}

std::string Agreement::describe_started() const {
  const Known plan = known(look(board_.started_plan));
  Descriptor what = plan.what;
  what.subject = plan.subject;
  return heading(what);
}

}  // namespace syncbn::comm
