// Operations as functions of the Python module that this library also is, for what asks for no gradient. Paddle's own way to a
// custom operation copies the list of all of them in every call.
#pragma once

#include <Python.h>

#include <tuple>
#include <utility>
#include <vector>

#include "recording.h"

namespace paddle {
namespace pybind {  // as in paddle/utils/pybind.h, which takes pybind11 in
Tensor& CastPyArg2Tensor(PyObject* object, Py_ssize_t position);
PyObject* ToPyObject(const Tensor& value, bool return_py_none_if_not_initialize);
}  // namespace pybind
}  // namespace paddle

namespace qwenvl {
namespace direct {

inline Tensor whole(PyObject* object, int position) {
  Tensor& x = paddle::pybind::CastPyArg2Tensor(object, position);
  return x.is_contiguous() ? x : x.contiguous();
}

// What a parameter of an operation is given.
template <class T>
struct Argument;
template <>
struct Argument<const Tensor&> {
  Tensor value;
  Argument(PyObject* object, int position) : value(whole(object, position)) {}
};
template <>
struct Argument<Tensor&> {  // is written to
  Tensor& value;
  Argument(PyObject* object, int position) : value(paddle::pybind::CastPyArg2Tensor(object, position)) {}
};
template <>
struct Argument<const paddle::optional<Tensor>&> {
  paddle::optional<Tensor> value;
  Argument(PyObject* object, int position) {
    if (object != Py_None) value = whole(object, position);
  }
};
template <>
struct Argument<bool> {
  bool value;
  Argument(PyObject* object, int) : value(PyObject_IsTrue(object) == 1) {}
};
template <>
struct Argument<int> {
  int value;
  Argument(PyObject* object, int) : value((int)PyLong_AsLong(object)) {}
};
template <>
struct Argument<float> {
  float value;
  Argument(PyObject* object, int) : value((float)PyFloat_AsDouble(object)) {}
};

class WithoutLock {  // other threads of Python run meanwhile
 public:
  WithoutLock() : state_(PyEval_SaveThread()) {}
  ~WithoutLock() { PyEval_RestoreThread(state_); }

 private:
  PyThreadState* state_;
};

inline void append(PyObject* list, PyObject* owned) {
  PyList_Append(list, owned);
  Py_DECREF(owned);
}

// The list that Paddle gives of an operation: what it returns, then what it has written to.
template <class R, class... P, size_t... I>
PyObject* call(R (*operation)(P...), PyObject* const* given, std::index_sequence<I...>) {
  std::tuple<Argument<P>...> arguments{Argument<P>(given[I], (int)I)...};
  if (PyErr_Occurred()) return nullptr;
  std::vector<Tensor> outputs;
  {
    const WithoutLock released;
    if constexpr (std::is_void_v<R>)
      operation(std::get<I>(arguments).value...);
    else
      outputs = operation(std::get<I>(arguments).value...);
    if (Recording* const recording = Recording::current())
      recording->add(std::make_unique<RecordedCall<R, P...>>(operation, std::get<I>(arguments).value...));
  }
  PyObject* const list = PyList_New(0);
  for (const Tensor& output : outputs) append(list, paddle::pybind::ToPyObject(output, false));
  (void)std::initializer_list<int>{(std::is_same_v<P, Tensor&> ? (Py_INCREF(given[I]), append(list, given[I]), 0) : 0)...};
  return list;
}

// f() with `wanted` arguments, whose errors are Python's.
template <class F>
PyObject* told(const char* name, Py_ssize_t count, Py_ssize_t wanted, F f) {
  if (count != wanted) return PyErr_Format(PyExc_TypeError, "%s takes %d arguments, not %d", name, (int)wanted, (int)count);
  try {
    return f();
  } catch (const std::exception& error) {
    return PyErr_Format(PyExc_RuntimeError, "%s: %s", name, error.what());
  }
}

template <class R, class... P>
PyObject* call(const char* name, R (*operation)(P...), PyObject* const* given, Py_ssize_t count) {
  return told(name, count, sizeof...(P), [&] { return call(operation, given, std::index_sequence_for<P...>{}); });
}

// The functions of the module, filled before anybody asks for it.
inline std::vector<PyMethodDef>& functions() {
  static std::vector<PyMethodDef> all;
  return all;
}

struct Registered {
  Registered(const char* name, PyObject* (*function)(PyObject*, PyObject* const*, Py_ssize_t)) {
    functions().push_back({name, (PyCFunction)(void (*)(void))function, METH_FASTCALL, nullptr});
  }
};

}  // namespace direct
}  // namespace qwenvl

#define QWENVL_DIRECT(name)                                                                            \
  static PyObject* direct_##name(PyObject*, PyObject* const* given, Py_ssize_t count) {                \
    return qwenvl::direct::call("qwenvl_" #name, qwenvl::name, given, count);                          \
  }                                                                                                    \
  static const qwenvl::direct::Registered registered_##name("qwenvl_" #name, direct_##name);
