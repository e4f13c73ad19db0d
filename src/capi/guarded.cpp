// SPDX-License-Identifier: Apache-2.0
#include "capi/guarded.hpp"

#include <exception>
#include <new>
#include <string>

#include "syncbn/error.hpp"
#include "syncbn/version.hpp"

#include "core/utf8.hpp"

namespace syncbn::capi {
namespace {

thread_local std::string last_error;

/// Keeps the message for syncbn_last_error, or none if there is no memory for it.
void remember(const char* message) noexcept {
  try {
    last_error = to_utf8(message);
  } catch (...) {
    last_error.clear();
  }
}

}  // namespace

syncbn_status status_of_current_exception() noexcept {
  try {
    throw;
  } catch (const InvalidArgument& error) {
    remember(error.what());
    return SYNCBN_INVALID_ARGUMENT;
  } catch (const NotConfigured& error) {
    remember(error.what());
    return SYNCBN_NOT_CONFIGURED;
  } catch (const FileError& error) {
    remember(error.what());
    return SYNCBN_FILE_ERROR;
  } catch (const CommError& error) {
    remember(error.what());
    return SYNCBN_COMM_ERROR;
  } catch (const DeviceError& error) {
    remember(error.what());
    return SYNCBN_DEVICE_ERROR;
  } catch (const std::bad_alloc&) {
    remember("out of memory");
    return SYNCBN_INTERNAL_ERROR;
  } catch (const std::exception& error) {
    remember(error.what());
    return SYNCBN_INTERNAL_ERROR;
  } catch (...) {
    remember("an exception of unknown type");
    return SYNCBN_INTERNAL_ERROR;
  }
}

void require(const void* pointer, const char* name) {
  if (pointer == nullptr) {
    throw InvalidArgument(std::string(name) + " is NULL");
  }
}

}  // namespace syncbn::capi

const char* syncbn_version(void) {
  return syncbn::version().data();
}

const char* syncbn_last_error(void) {
  return syncbn::capi::last_error.c_str();
}
