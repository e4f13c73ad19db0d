// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "python/extension/python.hpp"

namespace syncbn::python {

/// Arguments of a method that takes them by place.
using Arguments = std::span<PyObject* const>;

/// A Wrapper is a Python object that holds a C++ one. Python makes it by calling its type, whose
/// `tp_new` calls `wrap`.
template <class T>
struct Wrapper {
  PyObject_HEAD T* held;

  /// Makes an object of `type`.
  static Object wrap(PyTypeObject* type, std::unique_ptr<T> held) {
    Object object = checked(PyType_GenericAlloc(type, 0));
    reinterpret_cast<Wrapper*>(object.get())->held = held.release();
    return object;
  }

  static T& of(PyObject* object) { return *reinterpret_cast<Wrapper*>(object)->held; }

  /// Is the type's tp_dealloc. What is held may wait for other threads that need Python.
  static void destroy(PyObject* object) {
    PyTypeObject* const type = Py_TYPE(object);
    if (T* const held = reinterpret_cast<Wrapper*>(object)->held; held != nullptr) {
      const Released python;
      delete held;
    }
    PyObject_Free(object);
    Py_DECREF(type);
  }
};

/// Makes a type of the module: its __new__, methods (ended by an empty one), and what help() says.
template <class T>
Object make_type(const char* name, newfunc create, PyMethodDef* methods, const char* doc) {
  PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(create)},
                         {Py_tp_dealloc, reinterpret_cast<void*>(&Wrapper<T>::destroy)},
                         {Py_tp_methods, methods},
                         {Py_tp_doc, const_cast<char*>(doc)},
                         {0, nullptr}};
  PyType_Spec spec = {name, sizeof(Wrapper<T>), 0, Py_TPFLAGS_DEFAULT, slots};
  return checked(PyType_FromSpec(&spec));
}

/// Is a method of `taken` arguments that calls `body` with the held object and them.
template <class T, Py_ssize_t taken, Object (*body)(T&, Arguments)>
PyObject* method(PyObject* self, PyObject* const* arguments, Py_ssize_t count) noexcept {
  return guarded([&] {
    require_count("the method", count, taken);
    return body(Wrapper<T>::of(self), Arguments(arguments, static_cast<std::size_t>(count)));
  });
}

/// Makes the entry of such a method in a type's list.
template <class T, Py_ssize_t taken, Object (*body)(T&, Arguments)>
PyMethodDef method_of(const char* name, const char* doc) {
  return {name,
          reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&method<T, taken, body>)),
          METH_FASTCALL, doc};
}

}  // namespace syncbn::python
