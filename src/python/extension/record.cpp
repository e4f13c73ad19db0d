// SPDX-License-Identifier: Apache-2.0
#include "syncbn/batch_norm.hpp"
#include "syncbn/error.hpp"

#include "python/extension/module.hpp"
#include "python/extension/tensor.hpp"
#include "python/extension/type.hpp"

namespace syncbn::python {
namespace {

ForwardRecord::Note to_note(PyObject* numbers) {
  ForwardRecord::Note note{};
  for (std::size_t i = 0; i < note.size(); ++i) {
    note[i] = to_integer(checked(PySequence_GetItem(numbers, static_cast<Py_ssize_t>(i))).get());
  }
  return note;
}

/// Record() has memory of its own, Record(memory, note) is made again of its parts. Memory is a
/// tensor of Record.length(channels) doubles, a note is what note() returned, or None for an empty
/// record.
PyObject* create(PyTypeObject* type, PyObject* arguments, PyObject*) {
  return guarded([&] {
    if (PyTuple_Size(arguments) == 0) {
      return Wrapper<ForwardRecord>::wrap(type, std::make_unique<ForwardRecord>());
    }
    PyObject *memory = nullptr, *note = nullptr;
    long long channels = 0;
    if (PyArg_ParseTuple(arguments, "OLO", &memory, &channels, &note) == 0) {
      throw PythonError();
    }
    const ArrayView view = array_view(memory, "a record's memory");
    if (view.dtype() != DType::f64 ||
        view.size() < static_cast<std::int64_t>(ForwardRecord::length(channels))) {
      throw InvalidArgument("a record's memory has " + std::to_string(view.size()) +
                            " values (it takes " + std::to_string(ForwardRecord::length(channels)) +
                            " of float64)");
    }
    auto* const data = static_cast<double*>(view.data());
    return Wrapper<ForwardRecord>::wrap(
        type, note == Py_None
                  ? std::make_unique<ForwardRecord>(data, channels, view.device())
                  : std::make_unique<ForwardRecord>(data, channels, view.device(), to_note(note)));
  });
}

/// Returns how many doubles a record of so many channels takes.
PyObject* length(PyObject*, PyObject* channels) {
  return guarded(
      [&] { return checked(PyLong_FromSize_t(ForwardRecord::length(to_integer(channels)))); });
}

Object to_python(const ForwardRecord::Note& numbers) {
  Object list = checked(PyList_New(static_cast<Py_ssize_t>(numbers.size())));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    check(PyList_SetItem(list.get(), static_cast<Py_ssize_t>(i),
                         checked(PyLong_FromLongLong(numbers[i])).release()));
  }
  return list;
}

Object note(ForwardRecord& record, Arguments) {
  return to_python(record.note());
}

/// note_like(x): the note of a forward with x in place of its input, of as many channels.
Object note_like(ForwardRecord& record, Arguments arguments) {
  const TensorView x = tensor_view(arguments[0], "x");
  ForwardRecord::Note numbers = record.note();
  numbers[0] = x.shape().n;
  numbers[2] = x.shape().s;
  numbers[4] = static_cast<std::int64_t>(x.layout());
  return to_python(numbers);
}

Object to_list(std::span<const double> values) {
  Object list = checked(PyList_New(static_cast<Py_ssize_t>(values.size())));
  for (std::size_t i = 0; i < values.size(); ++i) {
    check(PyList_SetItem(list.get(), static_cast<Py_ssize_t>(i),
                         checked(PyFloat_FromDouble(values[i])).release()));
  }
  return list;
}

Object mean(ForwardRecord& record, Arguments) {
  return to_list(record.mean());
}
Object var(ForwardRecord& record, Arguments) {
  return to_list(record.var());
}
Object count(ForwardRecord& record, Arguments) {
  const std::span<const double> values = record.count();
  return checked(PyFloat_FromDouble(values.empty() ? 0.0 : values.front()));
}

PyMethodDef methods[] = {
    method_of<ForwardRecord, 0, mean>("mean", "Returns the group's batch mean, [C] floats."),
    method_of<ForwardRecord, 0, var>("var", "Returns the group's biased variance, [C] floats."),
    method_of<ForwardRecord, 0, count>("count", "Returns the elements per channel of the batch."),
    method_of<ForwardRecord, 0, note>("note", "Returns what the record says beside its memory."),
    method_of<ForwardRecord, 1, note_like>(
        "note_like", "note_like(x): the note of a forward that had x in place of its input."),
    {"length", length, METH_O | METH_STATIC,
     "Returns how many doubles a record of so many channels takes."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

Object make_record_type() {
  return make_type<ForwardRecord>("syncbn._core.Record", create, methods,
                                  "What a backward needs from its forward, besides the tensors.");
}

}  // namespace syncbn::python
