// SPDX-License-Identifier: Apache-2.0
//
// The Python module syncbn._core: the library's layer and groups, for tensors of any framework that
// shows where they lie (tensor.hpp). Python code around it makes the framework's own layer of it.

#include "python/extension/module.hpp"

#include "syncbn/communicator.hpp"
#include "syncbn/version.hpp"

#include "python/extension/tensor.hpp"

namespace syncbn::python {
namespace {

/// Makes an exception type of the module that is also one of Python's own.
PyObject* add_exception(PyObject* module, const char* name, PyObject* base, PyObject* also) {
  const Object bases =
      checked(also != nullptr ? PyTuple_Pack(2, base, also) : PyTuple_Pack(1, base));
  const std::string full_name = std::string("syncbn.") + name;
  PyObject* const type =
      checked(PyErr_NewException(full_name.c_str(), bases.get(), nullptr)).release();
  check(PyModule_AddObjectRef(module, name, type));
  return type;
}

void add_exceptions(PyObject* module) {
  Exceptions& all = Exceptions::get();
  all.error = add_exception(module, "Error", PyExc_RuntimeError, nullptr);
  all.invalid_argument = add_exception(module, "InvalidArgument", all.error, PyExc_ValueError);
  all.not_configured = add_exception(module, "NotConfigured", all.error, nullptr);
  all.comm_error = add_exception(module, "CommError", all.error, nullptr);
  all.device_error = add_exception(module, "DeviceError", all.error, nullptr);
}

/// Sets the handler of reports: a function of one text, or None.
PyObject* set_report_handler(PyObject*, PyObject* handler) {
  return guarded([&] {
    if (handler == Py_None) {
      syncbn::set_report_handler({});
      return none();
    }
    syncbn::set_report_handler([kept = kept_for_any_thread(handler)](std::string_view text) {
      const Acquired python;
      const Object argument(
          PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size())));
      const Object result(argument != nullptr
                              ? PyObject_CallFunctionObjArgs(kept.get(), argument.get(), nullptr)
                              : nullptr);
      if (result == nullptr) {
        PyErr_WriteUnraisable(kept.get());
      }
    });
    return none();
  });
}

/// Returns the number of the CUDA device that a tensor is on, -1 for the CPU.
PyObject* device_index(PyObject*, PyObject* tensor) {
  return guarded([&] { return checked(PyLong_FromLong(device_of(tensor, "x").index())); });
}

PyObject* answer_is_like(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  return guarded([&] {
    require_count("is_like", count, 2);
    return checked(PyBool_FromLong(is_like(arguments[0], arguments[1]) ? 1 : 0));
  });
}

using Function = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

PyMethodDef function_of(const char* name, Function function, const char* doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)),
          METH_FASTCALL, doc};
}

PyMethodDef functions[] = {
    function_of("is_like", answer_is_like,
                "Tells whether a tensor is dense with the shape, type, layout and device of "
                "another."),
    {"device_index", device_index, METH_O,
     "Returns the number of the CUDA device that a tensor is on, -1 for the CPU."},
    {"set_report_handler", set_report_handler, METH_O,
     "Sets the function that is told, in a text, of ranks that are late; None for none."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "syncbn._core",
                          "Synchronized batch norm for tensors of any framework.",
                          -1,
                          functions,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

Object make_module() {
  Object module = checked(PyModule_Create(&definition));
  add_exceptions(module.get());
  const std::pair<const char*, Object (*)()> types[] = {{"Group", make_group_type},
                                                        {"DeviceGroup", make_device_group_type},
                                                        {"Record", make_record_type},
                                                        {"Layer", make_layer_type}};
  for (const auto& [name, make] : types) {
    check(PyModule_AddObjectRef(module.get(), name, make().get()));
  }
  check(PyModule_AddStringConstant(module.get(), "__version__", syncbn::version().data()));
  return module;
}

}  // namespace

Exceptions& Exceptions::get() {
  static Exceptions all;
  return all;
}

}  // namespace syncbn::python

PyMODINIT_FUNC PyInit__core() {
  return syncbn::python::guarded([] { return syncbn::python::make_module(); });
}
