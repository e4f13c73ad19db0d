// SPDX-License-Identifier: Apache-2.0
#include "python/extension/group.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include "syncbn/communicator.hpp"
#include "syncbn/device_communicator.hpp"
#include "syncbn/error.hpp"

#include "cuda/device.hpp"
#include "python/extension/module.hpp"

namespace syncbn::python {
namespace {

/// Returns the text of the Python exception that is set, and clears it.
std::string take_python_error() {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  const Object kept_type(type), kept_value(value), kept_trace(trace);
  const Object text(value != nullptr ? PyObject_Str(value) : nullptr);
  const Object name(type != nullptr ? PyObject_GetAttrString(type, "__name__") : nullptr);
  if (text == nullptr || name == nullptr) {
    PyErr_Clear();
    return "an exception that has no text";
  }
  return to_text(name.get()) + ": " + to_text(text.get());
}

/// Sums by a Python function that gets a writable memoryview of the values' bytes.
class PythonAllReduce {
 public:
  explicit PythonAllReduce(PyObject* function) : function_(kept_for_any_thread(function)) {}

  void operator()(std::span<double> data) const {
    const Acquired python;
    const Object memory(PyMemoryView_FromMemory(reinterpret_cast<char*>(data.data()),
                                                static_cast<Py_ssize_t>(data.size_bytes()),
                                                PyBUF_WRITE));
    const Object result(memory != nullptr
                            ? PyObject_CallFunctionObjArgs(function_.get(), memory.get(), nullptr)
                            : nullptr);
    if (result == nullptr) {
      throw CommError(take_python_error());
    }
  }

 private:
  std::shared_ptr<PyObject> function_;
};

Deadlines deadlines_of(PyObject* seconds) {
  return default_deadlines(std::chrono::milliseconds(
      static_cast<std::int64_t>(std::max(1.0, to_double(seconds) * 1000))));
}

/// Puts sums on streams by a Python function of an address, a number of doubles, and a stream.
class PythonDeviceAllReduce {
 public:
  explicit PythonDeviceAllReduce(PyObject* function) : function_(kept_for_any_thread(function)) {}

  void operator()(double* values, std::size_t count, CudaStream stream) const {
    const Acquired python;
    const Object result(PyObject_CallFunction(
        function_.get(), "KnK",
        static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(values)),
        static_cast<Py_ssize_t>(count),
        static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(stream))));
    if (result == nullptr) {
      throw CommError(take_python_error());
    }
  }

 private:
  std::shared_ptr<PyObject> function_;
};

/// Returns a function that calls one of Python's, and goes on if that raises.
DeviceCommunicator::Abort python_abort(PyObject* function) {
  return [kept = kept_for_any_thread(function)] {
    const Acquired python;
    const Object result(PyObject_CallFunctionObjArgs(kept.get(), nullptr));
    if (result == nullptr) {
      PyErr_WriteUnraisable(kept.get());
    }
  };
}

/// Group() is one process by itself, Group(rank, size, all_reduce) one that sums by a function.
PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject*) {
  return guarded([&] {
    if (PyTuple_Size(arguments) == 0) {
      return Wrapper<Communicator>::wrap(type,
                                         std::make_unique<Communicator>(Communicator::self()));
    }
    int rank = 0, size = 0;
    PyObject* all_reduce = nullptr;
    if (PyArg_ParseTuple(arguments, "iiO", &rank, &size, &all_reduce) == 0) {
      throw PythonError();
    }
    return Wrapper<Communicator>::wrap(type, std::make_unique<Communicator>(Communicator::custom(
                                                 rank, size, PythonAllReduce(all_reduce))));
  });
}

/// Makes a group of the same processes that sums through memory which they share.
PyObject* sharing_memory(PyObject* self, PyObject* deadline) {
  return guarded([&] {
    const Deadlines deadlines = deadlines_of(deadline);
    std::unique_ptr<Communicator> group;
    {
      const Released python;
      group =
          std::make_unique<Communicator>(Communicator::processes(communicator_of(self), deadlines));
    }
    return Wrapper<Communicator>::wrap(Py_TYPE(self), std::move(group));
  });
}

/// DeviceGroup(index, host, deadline, kind, all_reduce, abort) sums the memory of a CUDA device.
/// The kinds are "alone": one process; "staged": by copies to the CPU, where `host` sums; "nccl";
/// and "custom": by two functions, of which the others get None.
PyObject* create_on_device(PyTypeObject* type, PyObject* arguments, PyObject*) {
  return guarded([&] {
    int index = 0;
    PyObject *of_host = nullptr, *deadline = nullptr, *all_reduce = nullptr, *abort = nullptr;
    const char* of_kind = nullptr;
    if (PyArg_ParseTuple(arguments, "iOOsOO", &index, &of_host, &deadline, &of_kind, &all_reduce,
                         &abort) == 0) {
      throw PythonError();
    }
    const std::string_view kind = of_kind;
    const Communicator& host = communicator_of(of_host);
    const Deadlines deadlines = deadlines_of(deadline);
    const cuda::OnDevice device(index);
    const auto make = [&] {
      if (kind == "custom") {
        return DeviceCommunicator::custom(host, PythonDeviceAllReduce(all_reduce), deadlines,
                                          python_abort(abort));
      }
      const Released python;  // the others may wait for processes
      if (kind == "nccl") {
        return DeviceCommunicator::nccl(host, deadlines);
      }
      if (kind == "staged") {
        return DeviceCommunicator::staged(host, deadlines);
      }
      if (kind == "alone") {
        return DeviceCommunicator::self();
      }
      throw InvalidArgument("'" + std::string(kind) + "' is no kind of device group.");
    };
    return Wrapper<DeviceCommunicator>::wrap(type, std::make_unique<DeviceCommunicator>(make()));
  });
}

Object counters(Communicator& group, Arguments) {
  const Counters counters = group.counters();
  return checked(Py_BuildValue("(LLd)", static_cast<long long>(counters.exchanges),
                               static_cast<long long>(counters.bytes), counters.seconds));
}

PyMethodDef methods[] = {
    method_of<Communicator, 0, counters>(
        "counters", "Returns how many exchanges were made, their bytes, and the seconds in them."),
    {"sharing_memory", sharing_memory, METH_O,
     "Makes a group of the same processes, of one host, that sums through shared memory, and waits "
     "at most so many seconds for a process."},
    {nullptr, nullptr, 0, nullptr}};

PyMethodDef device_methods[] = {{nullptr, nullptr, 0, nullptr}};

}  // namespace

Object make_device_group_type() {
  return make_type<DeviceCommunicator>(
      "syncbn._core.DeviceGroup", create_on_device, device_methods,
      "DeviceGroup(index, host, deadline, kind, all_reduce, abort): processes that sum in the "
      "memory of a CUDA device.");
}

Object make_group_type() {
  return make_type<Communicator>(
      "syncbn._core.Group", create, methods,
      "Group(): this process alone. Group(rank, size, all_reduce): processes that sum by a "
      "function which gets a writable buffer of doubles and leaves the sums over all processes in "
      "it.");
}

}  // namespace syncbn::python
