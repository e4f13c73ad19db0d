// SPDX-License-Identifier: Apache-2.0
//
// An Ethernet switch as a process, for kernels without netem. Its ports are TAP interfaces port1,
// port2, ... of the network namespace it starts in; moved to another namespace and renamed, they
// stay its ports. Frames are delayed, lost and slowed down on their way from one port to another.
#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <map>
#include <optional>
#include <poll.h>
#include <queue>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

namespace {

using Clock = std::chrono::steady_clock;
using Duration = Clock::duration;
using Time = Clock::time_point;

constexpr const char* usage =
    "Usage: switch --ports N [--delay MS] [--jitter MS] [--loss P] [--rate MBIT] [--cut PORT]\n\n"
    "  --delay, --jitter   of each frame, one way: delay, and evenly distributed up to jitter "
    "more\n"
    "  --loss              probability that a frame is lost\n"
    "  --rate              of each port, into the switch\n"
    "  --cut               the port that SIGUSR1 cuts off and SIGUSR2 joins again (the last)\n\n"
    "Prints \"ready\"; at SIGTERM how many frames went which way, and ends.\n\n"
    "Usage: switch --probe\n\n"
    "Makes one TAP interface, and ends: with 1 and the reason if the machine does not allow it.\n";

struct Options {
  std::size_t ports = 0;
  Duration delay{};
  Duration jitter{};
  double loss = 0;
  double bits_per_second = 0;  ///< 0: as fast as it goes
  std::size_t cut = 0;         ///< from 0, as everywhere inside
};

std::system_error failed(const char* doing) {
  return {errno, std::generic_category(), doing};
}

class Descriptor {
 public:
  Descriptor(int number, const char* doing) : number_(number) {
    if (number < 0) {
      throw failed(doing);
    }
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (number_ >= 0) {
      close(number_);
    }
  }
  int get() const { return number_; }

 private:
  int number_;
};

Descriptor open_tap(const std::string& name) {
  Descriptor tap(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "opening /dev/net/tun");
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (ioctl(tap.get(), TUNSETIFF, &request) != 0) {
    throw failed("making a TAP interface");
  }
  return tap;
}

struct Frame {
  Time due;
  std::uint64_t order;  ///< of arrival: frames due at the same time do not overtake each other
  std::size_t to;
  std::vector<char> bytes;
};

struct LaterFirst {
  bool operator()(const Frame& a, const Frame& b) const {
    return std::pair(a.due, a.order) > std::pair(b.due, b.order);
  }
};

struct Counts {
  std::uint64_t forwarded = 0;
  std::uint64_t lost = 0;
  std::uint64_t overflowed = 0;  ///< dropped before a rate's queue that was full
  std::uint64_t cut = 0;
};

class Switch {
 public:
  explicit Switch(const Options& options) : options_(options) {
    for (std::size_t port = 0; port < options.ports; ++port) {
      ports_.push_back({.tap = open_tap("port" + std::to_string(port + 1))});
    }
  }

  void cut(bool off) { is_cut_ = off; }
  const Counts& counts() const { return counts_; }
  std::size_t size() const { return ports_.size(); }
  int descriptor(std::size_t port) const { return ports_[port].tap.get(); }

  /// Takes what has arrived at the port, up to a number of frames so that no port starves another.
  void receive(std::size_t port) {
    constexpr int burst = 64;
    std::array<char, 1 << 16> buffer;
    for (int taken = 0; taken < burst; ++taken) {
      const ssize_t length = read(descriptor(port), buffer.data(), buffer.size());
      if (length < 0) {  // nothing more; or the interface is down
        return;
      }
      if (static_cast<std::size_t>(length) >= 2 * address_length) {
        take(port, std::span(buffer).first(static_cast<std::size_t>(length)));
      }
    }
  }

  /// Sends what is due. Returns how long until the next frame is.
  std::optional<Duration> deliver() {
    const Time now = Clock::now();
    while (!under_way_.empty() && under_way_.top().due <= now) {
      const Frame& frame = under_way_.top();
      const bool sent = write(descriptor(frame.to), frame.bytes.data(), frame.bytes.size()) >= 0;
      ++(sent ? counts_.forwarded : counts_.overflowed);
      under_way_.pop();
    }
    return under_way_.empty() ? std::nullopt : std::optional(under_way_.top().due - now);
  }

 private:
  static constexpr std::size_t address_length = 6;
  static constexpr Duration longest_queue = std::chrono::milliseconds(50);

  struct Port {
    Descriptor tap;
    Time idle_from{};  ///< when the frames taken so far will have passed at the port's rate
    Time last_due{};
  };

  void take(std::size_t from, std::span<const char> bytes) {
    const std::string to_address(bytes.data(), address_length);
    port_of_[std::string(bytes.data() + address_length, address_length)] = from;
    const std::optional<Time> due = due_of_frame(ports_[from], bytes.size());
    if (!due) {
      return;
    }
    const auto known = port_of_.find(to_address);
    for (std::size_t to = 0; to < ports_.size(); ++to) {
      if (to == from || (known != port_of_.end() && known->second != to)) {
        continue;
      }
      if (is_cut_ && (from == options_.cut || to == options_.cut)) {
        ++counts_.cut;
        continue;
      }
      under_way_.push({*due, arrived_++, to, {bytes.begin(), bytes.end()}});
    }
  }

  /// When a frame that has just come in at the port goes out; never, if it is lost. Frames of one
  /// port keep their order: a real path's jitter is of queues, which do not reorder.
  std::optional<Time> due_of_frame(Port& port, std::size_t size) {
    if (even_(random_) < options_.loss) {
      ++counts_.lost;
      return std::nullopt;
    }
    const Time now = Clock::now();
    Time passed = now;
    if (options_.bits_per_second > 0) {
      if (port.idle_from > now + longest_queue) {
        ++counts_.overflowed;
        return std::nullopt;
      }
      passed = std::max(now, port.idle_from) +
               seconds(8 * static_cast<double>(size) / options_.bits_per_second);
      port.idle_from = passed;
    }
    const auto jitter = std::chrono::duration_cast<Duration>(options_.jitter * even_(random_));
    port.last_due = std::max(port.last_due, passed + options_.delay + jitter);
    return port.last_due;
  }

  static Duration seconds(double value) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
  }

  Options options_;
  std::vector<Port> ports_;
  std::map<std::string, std::size_t> port_of_;  ///< by the Ethernet address that was seen there
  std::priority_queue<Frame, std::vector<Frame>, LaterFirst> under_way_;
  std::uint64_t arrived_ = 0;
  bool is_cut_ = false;
  Counts counts_;
  std::mt19937_64 random_{1};  // the same losses for the same frames
  std::uniform_real_distribution<double> even_{0, 1};
};

double number(std::string_view option, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= 1e6)) {
    throw std::invalid_argument(std::string(option) + " does not take '" + std::string(text) +
                                "'.\n" + usage);
  }
  return value;
}

Options parse(std::span<char*> arguments) {
  Options options;
  const auto milliseconds = [](double value) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(value));
  };
  std::size_t cut = 0;
  for (std::size_t at = 0; at + 1 < arguments.size(); at += 2) {
    const std::string_view option = arguments[at];
    const double value = number(option, arguments[at + 1]);
    if (option == "--ports") {
      options.ports = static_cast<std::size_t>(value);
    } else if (option == "--delay") {
      options.delay = milliseconds(value);
    } else if (option == "--jitter") {
      options.jitter = milliseconds(value);
    } else if (option == "--loss") {
      options.loss = value;
    } else if (option == "--rate") {
      options.bits_per_second = 1e6 * value;
    } else if (option == "--cut") {
      cut = static_cast<std::size_t>(value);
    } else {
      throw std::invalid_argument("no option " + std::string(option) + ".\n" + usage);
    }
  }
  if (arguments.size() % 2 != 0 || options.ports == 0 || cut > options.ports) {
    throw std::invalid_argument(usage);
  }
  options.cut = (cut == 0 ? options.ports : cut) - 1;
  return options;
}

/// Delivered through the descriptor from now on.
Descriptor signals_as_descriptor() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT}) {
    sigaddset(&signals, signal);
  }
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return {signalfd(-1, &signals, SFD_CLOEXEC), "signalfd"};
}

/// Whether the switch goes on.
bool obey(const Descriptor& signals, Switch& ethernet) {
  signalfd_siginfo signal{};
  if (read(signals.get(), &signal, sizeof signal) != sizeof signal) {
    throw failed("reading a signal");
  }
  if (signal.ssi_signo != SIGUSR1 && signal.ssi_signo != SIGUSR2) {
    return false;
  }
  ethernet.cut(signal.ssi_signo == SIGUSR1);
  return true;
}

void run(const Options& options) {
  const Descriptor signals = signals_as_descriptor();
  Switch ethernet(options);
  std::puts("ready");
  std::fflush(stdout);

  std::vector<pollfd> watched{{signals.get(), POLLIN, 0}};
  for (std::size_t port = 0; port < ethernet.size(); ++port) {
    watched.push_back({ethernet.descriptor(port), POLLIN, 0});
  }
  for (;;) {
    const std::optional<Duration> next = ethernet.deliver();
    const auto nanoseconds = std::chrono::nanoseconds(next.value_or(Duration{})).count();
    const timespec patience{.tv_sec = nanoseconds / 1'000'000'000,
                            .tv_nsec = nanoseconds % 1'000'000'000};
    if (ppoll(watched.data(), watched.size(), next ? &patience : nullptr, nullptr) < 0) {
      throw failed("ppoll");
    }
    if (watched[0].revents != 0 && !obey(signals, ethernet)) {
      break;
    }
    for (std::size_t port = 0; port < ethernet.size(); ++port) {
      if ((watched[port + 1].revents & POLLIN) != 0) {
        ethernet.receive(port);
      }
    }
  }
  const Counts& counts = ethernet.counts();
  std::printf("forwarded %llu lost %llu overflowed %llu cut %llu\n",
              static_cast<unsigned long long>(counts.forwarded),
              static_cast<unsigned long long>(counts.lost),
              static_cast<unsigned long long>(counts.overflowed),
              static_cast<unsigned long long>(counts.cut));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::span<char*> arguments = std::span(argv, static_cast<std::size_t>(argc)).subspan(1);
    if (arguments.size() == 1 && std::string_view(arguments[0]) == "--probe") {
      open_tap("");  // whatever name is free
    } else {
      run(parse(arguments));
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "switch: %s\n", error.what());
    return 1;
  }
}
