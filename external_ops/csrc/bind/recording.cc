#include "recording.h"

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
  for (const Tensor* x : call->tensors) is_whole_ = is_whole_ && known_.count(identity(*x));
  calls_.push_back(std::move(call));
}

bool Recording::ends_with(const Tensor& result) {
  result_ = result;
  bool is_made = false;
  for (const Made& each : made_) is_made = is_made || identity(each.tensor) == identity(result);
  if (!is_whole_ || !is_made) return false;
  std::unordered_map<const void*, size_t> places;
  for (size_t place = 0; place < given_.size(); ++place) places[identity(given_[place])] = place;
  for (const auto& call : calls_)
    for (Tensor* argument : call->tensors)
      if (const auto found = places.find(identity(*argument)); found != places.end())
        arguments_.push_back({argument, found->second});
  share_memory();
  for (const Given& each : arguments_) *each.argument = Tensor();  // they belong to whoever plays
  given_.clear(), known_.clear();
  return true;
}

// A tensor lies where one of its kind lay whose last reader has been called.
void Recording::share_memory() {
  std::unordered_map<const void*, size_t> last;
  for (const Made& each : made_) last[identity(each.tensor)] = each.call;
  for (size_t i = 0; i < calls_.size(); ++i)
    for (const Tensor* argument : calls_[i]->tensors)
      if (const auto found = last.find(identity(*argument)); found != last.end()) found->second = i;
  last[identity(result_)] = calls_.size();

  std::unordered_map<const void*, Tensor> now;  // where what a call has made lies
  std::vector<Tensor> free, used;
  auto made = made_.begin();
  for (size_t i = 0; i < calls_.size(); ++i) {
    std::vector<std::pair<size_t, Tensor>> fresh;
    for (; made != made_.end() && made->call == i; ++made) {
      if (!made->is_overwritten) continue;
      const void* const own = identity(made->tensor);
      for (auto each = free.begin(); each != free.end(); ++each)
        if (each->dims() == made->tensor.dims() && each->dtype() == made->tensor.dtype()) {
          made->tensor = *each, free.erase(each);
          break;
        }
      now[own] = made->tensor;
    }
    for (Tensor* argument : calls_[i]->tensors)
      if (const auto found = now.find(identity(*argument)); found != now.end()) *argument = found->second;
    for (auto each = now.begin(); each != now.end();)
      if (last[each->first] == i)
        free.push_back(each->second), each = now.erase(each);
      else
        ++each;
  }
  result_ = now[identity(result_)];
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

// f(), whose errors are Python's.
template <class F>
static PyObject* told(const char* name, Py_ssize_t count, Py_ssize_t wanted, F f) {
  if (count != wanted) return PyErr_Format(PyExc_TypeError, "%s takes %d arguments, not %d", name, (int)wanted, (int)count);
  try {
    return f();
  } catch (const std::exception& error) {
    return PyErr_Format(PyExc_RuntimeError, "%s: %s", name, error.what());
  }
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
