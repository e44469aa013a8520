#include "recording.h"

#ifndef PADDLE_WITH_CUDA  // with CUDA it asks for headers of cuBLAS
#include "paddle/phi/core/dense_tensor.h"
#endif
#ifdef QWENVL_PYTHON
#include "direct.h"
#endif

namespace qwenvl {

namespace {

const void* identity(const Tensor& x) { return x.impl().get(); }

}  // namespace

Recording::Recording(std::vector<Tensor> given, std::vector<Tensor> constant)
    : given_(std::move(given)), constant_(std::move(constant)) {
  for (const Tensor& x : constant_) constants_.insert(identity(x));
  known_ = constants_;
  for (const Tensor& x : given_) known_.insert(identity(x));
}

void Recording::add(std::unique_ptr<Call> call) {
  for (const Tensor* x : call->tensors) {
    is_whole_ = is_whole_ && known_.count(identity(*x));
    ++held_[identity(*x)];
  }
  calls_.push_back(std::move(call));
}

Tensor Recording::spare(const std::vector<int64_t>& shape, paddle::DataType dtype) const {
#ifndef PADDLE_WITH_CUDA
  for (const Tensor& each : overwritten_) {
    const auto* const dense = static_cast<const phi::DenseTensor*>(each.impl().get());
    const bool is_held = each.impl().use_count() > held_.at(identity(each)) || dense->Holder().use_count() > 1;  // by a view
    if (!is_held && each.dtype() == dtype && each.shape() == shape) return each;
  }
#endif
  return Tensor();
}

bool Recording::ends_with(const Tensor& result) {
  result_ = result;
  bool is_made = false;
  for (const Tensor& each : overwritten_) is_made = is_made || identity(each) == identity(result);
  if (!is_whole_ || !is_made) return false;
  std::unordered_map<const void*, size_t> places;
  for (size_t place = 0; place < given_.size(); ++place) places[identity(given_[place])] = place;
  for (const auto& call : calls_)
    for (Tensor* argument : call->tensors)
      if (const auto found = places.find(identity(*argument)); found != places.end())
        arguments_.push_back({argument, found->second});
  for (const Given& each : arguments_) *each.argument = Tensor();  // they belong to whoever plays
  given_.clear(), known_.clear(), overwritten_.clear(), held_.clear();
  return true;
}

Tensor Recording::play(const std::vector<Tensor>& given) {
  struct Playing {
    explicit Playing(Recording* recording) { current() = recording, recording->is_playing_ = true, recording->next_ = 0; }
    ~Playing() { current() = nullptr; }
  } playing(this);
  for (const Given& each : arguments_) *each.argument = given.at(each.place);
  for (const auto& call : calls_) call->run();
  for (const Given& each : arguments_) *each.argument = Tensor();
  return result_;
}

#ifdef QWENVL_PYTHON
namespace direct {

constexpr char KIND[] = "paddlemix_qwenvl_ops.Recording";

static std::vector<Tensor> listed(PyObject* list, int position) {
  std::vector<Tensor> found;
  PyObject* const items = PySequence_Fast(list, "a list of tensors");
  if (!items) return found;
  for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items); ++i)
    found.push_back(paddle::pybind::CastPyArg2Tensor(PySequence_Fast_GET_ITEM(items, i), position));
  Py_DECREF(items);
  return found;
}

// record(given, constant): this thread's calls are kept from now on.
static PyObject* record(PyObject*, PyObject* const* given, Py_ssize_t count) {
  return told("record", count, 2, [&]() -> PyObject* {
    std::vector<Tensor> others = listed(given[0], 0), constant = listed(given[1], 1);
    if (PyErr_Occurred()) return nullptr;
    delete std::exchange(Recording::current(), new Recording(std::move(others), std::move(constant)));
    Py_RETURN_NONE;
  });
}

// recorded(result): what was kept, or None where it cannot be played, as without a result.
static PyObject* recorded(PyObject*, PyObject* const* given, Py_ssize_t count) {
  return told("recorded", count, 1, [&]() -> PyObject* {
    std::unique_ptr<Recording> recording(std::exchange(Recording::current(), nullptr));
    if (!recording || given[0] == Py_None) Py_RETURN_NONE;
    if (!recording->ends_with(paddle::pybind::CastPyArg2Tensor(given[0], 0))) Py_RETURN_NONE;
    return PyCapsule_New(recording.release(), KIND, [](PyObject* capsule) {
      delete (Recording*)PyCapsule_GetPointer(capsule, KIND);
    });
  });
}

// play(recording, given): the result, which the next play writes over.
static PyObject* play(PyObject*, PyObject* const* given, Py_ssize_t count) {
  return told("play", count, 2, [&]() -> PyObject* {
    auto* const recording = (Recording*)PyCapsule_GetPointer(given[0], KIND);
    const std::vector<Tensor> others = listed(given[1], 1);
    if (PyErr_Occurred()) return nullptr;
    Tensor result;
    {
      const WithoutLock released;
      result = recording->play(others);
    }
    return paddle::pybind::ToPyObject(result, false);
  });
}

static const Registered registered_record("record", record), registered_recorded("recorded", recorded),
    registered_play("play", play);

}  // namespace direct
#endif

}  // namespace qwenvl
