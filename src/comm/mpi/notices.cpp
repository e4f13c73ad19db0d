// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/notices.hpp"

#include <utility>

#include "core/utf8.hpp"

#include "comm/mpi/handles.hpp"

namespace syncbn::comm::mpi {

Notices::~Notices() {
  if (members_.usable()) {
    all_sent();
  }
  for (Letter& letter : letters_) {
    static_cast<void>(letter.text.release());  // MPI may still read it
  }
}

bool Notices::all_sent() {
  int sent = 1;
  while (!letters_.empty() && sent != 0) {  // ends at the first that MPI has not sent
    MPI_Test(&letters_.front().sending, &sent, MPI_STATUS_IGNORE);
    if (sent != 0) {
      letters_.pop_front();
    }
  }
  return letters_.empty();
}

void Notices::tell_all(char about, std::string_view text) noexcept {
  for (int member = 0; member < members_.size(); ++member) {
    if (member != members_.rank()) {
      tell(member, about, text);
    }
  }
}

void Notices::tell(int member, char about, std::string_view text) noexcept {
  if (!members_.usable()) {  // after MPI_Finalize, for example
    return;
  }
  try {
    auto whole = std::make_unique<std::string>(1, about);
    *whole += cut_to(text, longest - 1);
    Letter& letter = letters_.emplace_back();
    letter.text = std::move(whole);
    // An error is ignored: MPI refuses to send to a lost rank, and the rest are told all the same.
    MPI_Isend(letter.text->data(), static_cast<int>(letter.text->size()), MPI_CHAR,
              members_.in_comm(member), tag_, members_.comm(), &letter.sending);
  } catch (...) {  // without memory for it; the others fail at their deadlines
  }
}

std::optional<Notices::Notice> Notices::next() {
  int there = 0;
  MPI_Status status;
  check(MPI_Iprobe(MPI_ANY_SOURCE, tag_, members_.comm(), &there, &status), "MPI_Iprobe");
  if (there == 0) {
    return std::nullopt;
  }
  int length = 0;
  check(MPI_Get_count(&status, MPI_CHAR, &length), "MPI_Get_count");
  std::string text(static_cast<std::size_t>(length), ' ');
  check(MPI_Recv(text.data(), length, MPI_CHAR, status.MPI_SOURCE, tag_, members_.comm(),
                 MPI_STATUS_IGNORE),
        "MPI_Recv");
  return Notice{members_.member(status.MPI_SOURCE), text.front(), text.substr(1)};
}

}  // namespace syncbn::comm::mpi
