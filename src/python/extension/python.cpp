// SPDX-License-Identifier: Apache-2.0
#include "python/extension/python.hpp"

#include <new>

#include "syncbn/error.hpp"

#include "python/extension/module.hpp"

namespace syncbn::python {

Object checked(PyObject* result) {
  if (result == nullptr) {
    throw PythonError();
  }
  return Object(result);
}

void check(int result) {
  if (result < 0) {
    throw PythonError();
  }
}

std::string to_text(PyObject* string) {
  Py_ssize_t length = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(string, &length);
  if (text == nullptr) {
    throw PythonError();
  }
  return {text, static_cast<std::size_t>(length)};
}

double to_double(PyObject* number) {
  const double value = PyFloat_AsDouble(number);
  if (value == -1 && PyErr_Occurred() != nullptr) {
    throw PythonError();
  }
  return value;
}

std::int64_t to_integer(PyObject* number) {
  const long long value = PyLong_AsLongLong(number);
  if (value == -1 && PyErr_Occurred() != nullptr) {
    throw PythonError();
  }
  return value;
}

std::shared_ptr<PyObject> kept_for_any_thread(PyObject* object) {
  return {Py_NewRef(object), [](PyObject* kept) {
            if (Py_IsInitialized() != 0) {
              const Acquired python;
              Py_DECREF(kept);
            }
          }};
}

void set_error_of_current_exception() noexcept {
  try {
    throw;
  } catch (const PythonError&) {  // is set already
  } catch (const InvalidArgument& error) {
    PyErr_SetString(Exceptions::get().invalid_argument, error.what());
  } catch (const NotConfigured& error) {
    PyErr_SetString(Exceptions::get().not_configured, error.what());
  } catch (const CommError& error) {
    PyErr_SetString(Exceptions::get().comm_error, error.what());
  } catch (const DeviceError& error) {
    PyErr_SetString(Exceptions::get().device_error, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(Exceptions::get().error, error.what());
  } catch (...) {
    PyErr_SetString(Exceptions::get().error, "an exception of unknown type");
  }
}

void require_count(const char* function, Py_ssize_t given, Py_ssize_t taken) {
  if (given != taken) {
    throw InvalidArgument(std::string(function) + " takes " + std::to_string(taken) +
                          " arguments (" + std::to_string(given) + " were given)");
  }
}

}  // namespace syncbn::python
