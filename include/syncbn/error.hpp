// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

#include "syncbn/export.h"

namespace syncbn {

/// Error is the base of the library's exceptions. Messages read: problem (why), suggestion.
class SYNCBN_API Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// InvalidArgument says that an argument cannot be used: wrong shape, null data, value out of
/// range. Nothing was changed.
class SYNCBN_API InvalidArgument : public Error {
  using Error::Error;
};

/// NotConfigured says that a call needs something this object or build was not set up with. Nothing
/// was changed.
class SYNCBN_API NotConfigured : public Error {
  using Error::Error;
};

/// FileError says that a file cannot be read, written or understood. A failed load leaves its
/// object unchanged.
class SYNCBN_API FileError : public Error {
  using Error::Error;
};

/// DeviceError says that a CUDA device reported an error, or cannot do what it was asked for. Work
/// put on it before may be lost.
class SYNCBN_API DeviceError : public Error {
  using Error::Error;
};

/// CommError says that a collective failed: the ranks disagree, a rank is missing, or the transport
/// reported an error. The communicator is unusable from here on: every later collective throws
/// again with the first reason. Make a new one from the MPI_Comm, the callback or `threads`.
class SYNCBN_API CommError : public Error {
  using Error::Error;
};

}  // namespace syncbn
