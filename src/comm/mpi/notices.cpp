// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi/notices.hpp"

#include "comm/mpi/handles.hpp"

namespace syncbn::comm::mpi {

Notices::Notices(MPI_Comm comm) : comm_(comm) {}

Notices::~Notices() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  for (Letter& letter : letters_) {
    int sent = 0;
    if (finalized == 0) {
      MPI_Test(&letter.sending, &sent, MPI_STATUS_IGNORE);
    }
    if (sent == 0) {
      static_cast<void>(letter.text.release());  // MPI may still read it
    }
  }
}

void Notices::tell_all(char kind, std::string_view text) noexcept {
  try {
    int rank = 0;
    int size = 0;
    check(MPI_Comm_rank(comm_, &rank), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &size), "MPI_Comm_size");
    for (int to = 0; to < size; ++to) {
      if (to == rank) {
        continue;
      }
      Letter& letter = letters_.emplace_back();
      letter.text = std::make_unique<std::string>(1, kind);
      *letter.text += text.substr(0, longest - 1);
      // Refused for a rank that is lost; the rest are told all the same.
      MPI_Isend(letter.text->data(), static_cast<int>(letter.text->size()), MPI_CHAR, to, tag,
                comm_, &letter.sending);
    }
  } catch (...) {  // they will see at their deadlines
  }
}

std::optional<Notices::Notice> Notices::next() {
  int there = 0;
  MPI_Status status;
  check(MPI_Iprobe(MPI_ANY_SOURCE, tag, comm_, &there, &status), "MPI_Iprobe");
  if (there == 0) {
    return std::nullopt;
  }
  int length = 0;
  check(MPI_Get_count(&status, MPI_CHAR, &length), "MPI_Get_count");
  std::string text(static_cast<std::size_t>(length), ' ');
  check(MPI_Recv(text.data(), length, MPI_CHAR, status.MPI_SOURCE, tag, comm_, MPI_STATUS_IGNORE),
        "MPI_Recv");
  return Notice{status.MPI_SOURCE, text.front(), text.substr(1)};
}

}  // namespace syncbn::comm::mpi
