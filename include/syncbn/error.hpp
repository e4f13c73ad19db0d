// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace syncbn {

/// Base of everything this library throws. Messages read: problem (why), suggestion.
class Error : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// An argument cannot be used: wrong shape, null data, value out of range. Nothing was changed.
class InvalidArgument : public Error {
  using Error::Error;
};

/// The call needs something this object or build was not set up with. Nothing was changed.
class NotConfigured : public Error {
  using Error::Error;
};

/// A file cannot be read, written or understood. What was to be loaded into is unchanged.
class FileError : public Error {
  using Error::Error;
};

/// A CUDA device reported an error, or cannot do what it was asked for. Work put on it before may
/// be lost.
class DeviceError : public Error {
  using Error::Error;
};

/// A collective failed: the ranks disagree, a rank is missing, or the transport reported an error.
/// The communicator is unusable from here on; every later call on it throws again with the first
/// reason. Make a new one from the MPI_Comm, the callback or `threads`.
class CommError : public Error {
  using Error::Error;
};

}  // namespace syncbn
