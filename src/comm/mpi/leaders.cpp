// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/leaders.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "syncbn/error.hpp"

#include "comm/group/descriptor.hpp"
#include "comm/mpi/meeting.hpp"
#include "comm/mpi/notices.hpp"
#include "comm/mpi/schedule.hpp"

namespace syncbn::comm::mpi {
namespace {

struct Header {
  std::uint64_t fingerprint;
  std::uint64_t length;
  std::uint64_t agreed;  ///< 1 if all whose values are in here agree, else 0
};

/// Holds one piece of a message as it travels between leaders: a header, then the values.
class Packet {
 public:
  Packet() : bytes_(sizeof(Header) + node::piece_length * sizeof(double)) {}

  Header header() const {
    Header header{};
    std::memcpy(&header, bytes_.data(), sizeof header);
    return header;
  }
  std::span<const double> values(std::size_t length) const {
    return {reinterpret_cast<const double*>(bytes_.data() + sizeof(Header)), length};
  }
  void fill(const Header& header, std::span<const double> values) {
    std::memcpy(bytes_.data(), &header, sizeof header);
    std::memcpy(bytes_.data() + sizeof header, values.data(), values.size_bytes());
  }
  std::byte* data() { return bytes_.data(); }
  int size_for(std::size_t length) const {
    return static_cast<int>(sizeof(Header) + length * sizeof(double));
  }
  int capacity() const { return static_cast<int>(bytes_.size()); }

 private:
  std::vector<std::byte> bytes_;
};

inline constexpr std::size_t most_partners = 2;
const std::array<MPI_Request, 2 * most_partners> no_requests{MPI_REQUEST_NULL, MPI_REQUEST_NULL,
                                                             MPI_REQUEST_NULL, MPI_REQUEST_NULL};

/// Holds the state of one piece that the leaders are summing.
struct Sum {
  Message message;
  int tag = 0;
  std::span<double> values;        ///< this node's values, and the sum in the end
  std::span<const double> so_far;  ///< the sum so far, in `values` or `partial`
  std::vector<double> partial = std::vector<double>(node::piece_length);
  bool agreed = true;
  std::size_t step = 0;
  bool step_begun = false;
  Packet out;
  std::array<Packet, most_partners> in;
  /// Requests of the current step: the k-th receives from partner k, and that behind by
  /// most_partners sends to it.
  std::array<MPI_Request, 2 * most_partners> requests = no_requests;
};

/// Adds two or three arrays. The sum may take the place of one of them.
void add(std::span<const double* const> operands, std::span<double> sum) {
  if (operands.size() == 2) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] = operands[0][i] + operands[1][i];
    }
  } else {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] = operands[0][i] + operands[1][i] + operands[2][i];
    }
  }
}

// Kinds of notices between leaders. Each has the number of a message, a blank, and a text:
constexpr char late = 'l';     // whom the sender misses in that message
constexpr char gone = 'g';     // why the sender has given up in that message
constexpr char refused = 'r';  // why the sender has refused a call after that message

class Leaders final : public node::Network {
 public:
  Leaders(Members members, std::vector<Node> nodes, Deadlines deadlines)
      : members_(std::move(members)),
        notices_(members_, Kind::notice),
        deadlines_(deadlines),
        rank_(members_.rank()),
        size_(members_.size()),
        nodes_(std::move(nodes)),
        steps_(schedule(rank_, size_)),
        heard_(static_cast<std::size_t>(size_), false),
        refusal_of_(static_cast<std::size_t>(size_)) {
    for (std::unique_ptr<Sum>& sum : sums_) {
      sum = std::make_unique<Sum>();
    }
    for (const Step& step : steps_) {
      if (step.receives()) {
        last_to_receive_ = &step;
      }
    }
  }
  Leaders(const Leaders&) = delete;
  Leaders& operator=(const Leaders&) = delete;
  ~Leaders() override { leave_to_mpi(); }

  void start(const Message& message, std::uint64_t piece, std::span<double> values) override {
    Sum& sum = at(next_++);
    sum.message = message;
    sum.tag = members_.tag(Kind::sum) + static_cast<int>(piece % sums);
    sum.values = values;
    sum.so_far = values;
    sum.agreed = true;
    sum.step = 0;
    sum.step_begun = false;
    advance(sum);
  }

  bool finished() override {
    for (std::uint64_t number = oldest_; number < next_; ++number) {
      advance(at(number));
    }
    Sum& sum = at(oldest_);
    if (sum.step < steps_.size()) {
      return false;
    }
    if (!sum.agreed) {
      throw_disagreement(sum.message);
    }
    ++oldest_;
    if (!news_.empty()) {
      news_.clear();
      heard_.assign(heard_.size(), false);
    }
    return true;
  }

  std::string missing() override {
    const std::vector<int> silent = silent_leaders();
    std::string names;
    std::string refusals;
    for (const int leader : silent) {
      names += (names.empty() ? "" : ", ") + name(leader);
      const std::string& refusal = refusal_of_[static_cast<std::size_t>(leader)];
      const std::size_t blank = refusal.find(' ');
      if (refusal.substr(0, blank) == std::to_string(at(oldest_).message.sequence - 1)) {
        refusals += "\n  " + members_.name({leader}) +
                    "; the last it refused: " + refusal.substr(blank + 1);
      }
    }
    return names + refusals;
  }

  void tell(std::string_view what, bool final) noexcept override {
    if (final && all_know_) {
      return;
    }
    // Receivers ignore the notice unless they wait in the message of the same number.
    const std::int64_t sequence = oldest_ < next_ ? at(oldest_).message.sequence : 0;
    notices_.tell_all(final ? gone : late, std::to_string(sequence) + ' ' + std::string(what));
  }

  void refuse(std::int64_t last, std::string_view why) noexcept override {
    if (refusals_ < most_refusals) {
      ++refusals_;
      notices_.tell_all(refused, std::to_string(last) + ' ' + std::string(why));
    }
  }

  std::string news() override {
    while (const std::optional<Notices::Notice> notice = notices_.next()) {
      const std::size_t blank = notice->text.find(' ');
      const std::string text = name(notice->from) + ": " + notice->text.substr(blank + 1);
      if (notice->about == gone) {
        throw CommError("given up by " + text);
      }
      if (notice->about == refused) {
        refusal_of_[static_cast<std::size_t>(notice->from)] = notice->text;
        continue;
      }
      if (oldest_ == next_ ||
          notice->text.substr(0, blank) != std::to_string(at(oldest_).message.sequence)) {
        continue;
      }
      heard_[static_cast<std::size_t>(notice->from)] = true;
      news_ += (news_.empty() ? "" : "\n  ") + text;
    }
    return news_;
  }

 private:
  Sum& at(std::uint64_t number) { return *sums_[number % sums_.size()]; }
  std::string name(int leader) const {
    const Node& node = nodes_[static_cast<std::size_t>(leader)];
    return list_ranks(node.ranks) + " on " + node.host;
  }

  // Returns the leaders that may be missing. If some have sent notices about the message, these are
  // the others; if none or all have, those that the current step waits for.
  std::vector<int> silent_leaders() {
    std::vector<int> silent;
    if (std::ranges::count(heard_, true) > 0) {
      for (int leader = 0; leader < size_; ++leader) {
        if (leader != rank_ && !heard_[static_cast<std::size_t>(leader)]) {
          silent.push_back(leader);
        }
      }
    }
    if (!silent.empty() || oldest_ == next_) {
      return silent;
    }
    const Sum& sum = at(oldest_);
    const Step& step = steps_[std::min(sum.step, steps_.size() - 1)];
    for (std::size_t k = 0; k < step.partners.size(); ++k) {
      // A partner that does not take our message is missing too: it may have died after sending its
      // own.
      if (sum.requests[k] != MPI_REQUEST_NULL ||
          sum.requests[most_partners + k] != MPI_REQUEST_NULL || !step.receives()) {
        silent.push_back(step.partners[k]);
      }
    }
    return silent;
  }

  // Takes the sum through as many steps as the messages that have come allow.
  void advance(Sum& sum) {
    while (sum.step < steps_.size()) {
      const Step& step = steps_[sum.step];
      if (!sum.step_begun) {
        begin(sum, step);
      }
      if (!arrived(sum)) {
        return;
      }
      if (step.receives()) {
        take_in(sum, step);
      }
      ++sum.step;
      sum.step_begun = false;
    }
  }

  void begin(Sum& sum, const Step& step) {
    for (std::size_t k = 0; step.receives() && k < step.partners.size(); ++k) {
      check(
          MPI_Irecv(sum.in[k].data(), sum.in[k].capacity(), MPI_BYTE,
                    members_.in_comm(step.partners[k]), sum.tag, members_.comm(), &sum.requests[k]),
          "MPI_Irecv");
    }
    if (step.sends()) {
      sum.out.fill({sum.message.fingerprint, sum.values.size(), sum.agreed ? 1U : 0U}, sum.so_far);
    }
    for (std::size_t k = 0; step.sends() && k < step.partners.size(); ++k) {
      check(MPI_Isend(sum.out.data(), sum.out.size_for(sum.values.size()), MPI_BYTE,
                      members_.in_comm(step.partners[k]), sum.tag, members_.comm(),
                      &sum.requests[most_partners + k]),
            "MPI_Isend");
    }
    sum.step_begun = true;
  }

  // Tests all requests in one call, as each call of MPI's costs a system call. The requests that
  // are left tell who is missing (silent_leaders).
  static bool arrived(Sum& sum) {
    int done = 0;
    std::array<int, 2 * most_partners> which{};
    std::array<MPI_Status, 2 * most_partners> statuses{};
    const int code = MPI_Testsome(static_cast<int>(sum.requests.size()), sum.requests.data(), &done,
                                  which.data(), statuses.data());
    if (code != MPI_SUCCESS) {
      for (int i = 0; i < done; ++i) {
        check(statuses[static_cast<std::size_t>(i)].MPI_ERROR, "MPI_Testsome");
      }
      check(code, "MPI_Testsome");
    }
    return sum.requests == no_requests;
  }

  void take_in(Sum& sum, const Step& step) {
    for (std::size_t k = 0; k < step.partners.size(); ++k) {
      const Header header = sum.in[k].header();
      sum.agreed = sum.agreed && header.agreed != 0 &&
                   header.fingerprint == sum.message.fingerprint &&
                   header.length == sum.values.size();
    }
    if (!sum.agreed) {
      return;
    }
    const std::size_t length = sum.values.size();
    if (step.act == Act::take_sum) {
      std::ranges::copy(sum.in[0].values(length), sum.values.begin());
      return;
    }
    std::array<const double*, most_partners + 1> operands{};  // in the order of ranks
    const auto own = static_cast<std::size_t>(std::ranges::lower_bound(step.partners, rank_) -
                                              step.partners.begin());
    operands[own] = sum.so_far.data();
    for (std::size_t k = 0; k < step.partners.size(); ++k) {
      operands[k < own ? k : k + 1] = sum.in[k].values(length).data();
    }
    // `values` is written only in the last step that receives, when all are known to agree.
    const bool last = &step == last_to_receive_;
    const std::span<double> to = last ? sum.values : std::span(sum.partial).first(length);
    add(std::span(operands).first(step.partners.size() + 1), to);
    sum.so_far = to;
  }

  // Collective over the leaders, who all know by now that they disagree. Throws CommError with the
  // table of what each node's ranks agreed on.
  [[noreturn]] void throw_disagreement(const Message& message) {
    std::array<double, descriptor_words> own{};
    pack(message.what, message.sequence, own);
    Meeting meeting(members_, "telling each other who did what", deadlines_, Kind::dispute,
                    Kind::verdict);
    const std::vector<std::string> all =
        meeting.exchange({reinterpret_cast<const char*>(own.data()), sizeof own});
    std::vector<double> packed;
    std::vector<int> ranks;
    for (std::size_t leader = 0; leader < nodes_.size(); ++leader) {
      std::memcpy(own.data(), all[leader].data(), std::min(sizeof own, all[leader].size()));
      for (const int rank : nodes_[leader].ranks) {
        ranks.push_back(rank);
        packed.insert(packed.end(), own.begin(), own.end());
      }
    }
    all_know_ = true;
    throw CommError(describe_disagreement(*message.what.operation, packed, ranks));
  }

  // Leaves to MPI the communicator, on which notices may come for as long as others live
  // (notices.hpp), and the memory of sums that were not finished.
  void leave_to_mpi() {
    members_.abandon();
    for (std::uint64_t number = oldest_; number < next_; ++number) {
      static_cast<void>(sums_[number % sums_.size()].release());
    }
  }

  Members members_;
  Notices notices_;
  Deadlines deadlines_;
  int rank_;
  int size_;
  std::vector<Node> nodes_;
  std::vector<Step> steps_;
  const Step* last_to_receive_ = nullptr;  ///< the last of the steps that receives
  std::array<std::unique_ptr<Sum>, node::depth> sums_;
  std::uint64_t oldest_ = 0;  ///< number of the oldest sum under way
  std::uint64_t next_ = 0;    ///< number of the next sum
  bool all_know_ = false;     ///< all leaders know of the failure, so this one need not tell them
  std::vector<bool> heard_;   ///< by leader: whether it has sent a notice about the oldest sum
  /// By leader: what it refused last. The text has the number of the last message before, a blank,
  /// and the reason.
  std::vector<std::string> refusal_of_;
  static constexpr int most_refusals = 100;  ///< sent; they lie unread until a receiver waits
  int refusals_ = 0;
  std::string news_;
};

}  // namespace

std::unique_ptr<node::Network> network(Members leaders, std::vector<Node> nodes,
                                       Deadlines deadlines) {
  return std::make_unique<Leaders>(std::move(leaders), std::move(nodes), deadlines);
}

}  // namespace syncbn::comm::mpi
