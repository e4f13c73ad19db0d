// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace syncbn {

/// Error is the base of the library's exceptions. Messages read: problem (why), suggestion.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// InvalidArgument says that an argument cannot be used: wrong shape, null data, value out of
/// range. Nothing was changed.
class InvalidArgument : public Error {
  using Error::Error;
};

/// NotConfigured says that a call needs something this object or build was not set up with. Nothing
/// was changed.
class NotConfigured : public Error {
  using Error::Error;
};

/// FileError says that a file cannot be read, written or understood. A failed load leaves its
/// object unchanged.
class FileError : public Error {
  using Error::Error;
};

/// DeviceError says that a CUDA device reported an error, or cannot do what it was asked for. Work
/// put on it before may be lost.
class DeviceError : public Error {
  using Error::Error;
};

/// CommError says that a collective failed: the ranks disagree, a rank is missing, or the transport
/// reported an error. The communicator is unusable from here on: every later collective throws
/// again with the first reason. Make a new one from the MPI_Comm, the callback or `threads`.
class CommError : public Error {
  using Error::Error;
};

}  // namespace syncbn
