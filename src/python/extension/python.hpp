// SPDX-License-Identifier: Apache-2.0
#pragma once

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000  // one binary for Python 3.11 and all later ones
#include <Python.h>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace syncbn::python {

struct DropReference {
  void operator()(PyObject* object) const noexcept { Py_DECREF(object); }
};
/// Owns a reference to a Python object.
using Object = std::unique_ptr<PyObject, DropReference>;

/// PythonError says that Python's error indicator is set, and tells Python nothing more.
class PythonError : public std::exception {};

/// Takes what a function of Python's returned. Throws PythonError if that is null.
Object checked(PyObject* result);
/// Throws PythonError if a function of Python's returned an error.
void check(int result);

/// Returns a Python string as UTF-8.
std::string to_text(PyObject* string);
double to_double(PyObject* number);
std::int64_t to_integer(PyObject* number);

/// Ends the scope in which this thread may touch Python objects, so that other threads can run
/// Python. The destructor begins it again.
class Released {
 public:
  Released() : state_(PyEval_SaveThread()) {}
  ~Released() { PyEval_RestoreThread(state_); }
  Released(const Released&) = delete;
  Released& operator=(const Released&) = delete;

 private:
  PyThreadState* state_;
};

/// Lets this thread touch Python objects until the end of the scope, whether or not it may already.
class Acquired {
 public:
  Acquired() : state_(PyGILState_Ensure()) {}
  ~Acquired() { PyGILState_Release(state_); }
  Acquired(const Acquired&) = delete;
  Acquired& operator=(const Acquired&) = delete;

 private:
  PyGILState_STATE state_;
};

/// Keeps an object, for holders that may drop it in any thread.
std::shared_ptr<PyObject> kept_for_any_thread(PyObject* object);

/// Sets Python's error indicator to the exception that is being handled. The library's become
/// exceptions of the module, with the same names.
void set_error_of_current_exception() noexcept;

/// Calls `body`, at the edge to Python: returns its result, or null with Python's error indicator
/// set if it throws.
template <class Body>
PyObject* guarded(Body&& body) noexcept {
  try {
    return std::forward<Body>(body)().release();
  } catch (...) {
    set_error_of_current_exception();
    return nullptr;
  }
}

/// Returns None.
inline Object none() {
  return Object(Py_NewRef(Py_None));
}

/// Throws InvalidArgument unless a function got as many arguments as it takes.
void require_count(const char* function, Py_ssize_t given, Py_ssize_t taken);

}  // namespace syncbn::python
