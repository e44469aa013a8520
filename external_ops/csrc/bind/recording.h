// Calls of operations on the CPU that are done again without Python: what a CUDA graph is on a GPU. While a thread records, its
// calls are kept with their arguments, and the tensors that they make; when they are played, they write to the same tensors. A
// tensor that Python holds no longer is the next one of its shape, so that a recording takes no more memory than its calls; where
// Paddle has CUDA who else holds a tensor's memory is not known here, and each is one of its own.
#pragma once

#include <memory>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "paddle/phi/api/all.h"
#include "paddle/utils/optional.h"

namespace qwenvl {

using paddle::Tensor;

class Recording {
 public:
  struct Call {
    virtual ~Call() = default;
    virtual void run() = 0;
    std::vector<Tensor*> tensors;  // its arguments
  };

  // `given` are others in each play; `constant` ones, as weights, are always the same.
  Recording(std::vector<Tensor> given, std::vector<Tensor> constant);

  // What this thread records or plays, or null.
  static Recording*& current() {
    static thread_local Recording* recording = nullptr;
    return recording;
  }
  bool is_constant(const Tensor& x) const { return constants_.count(x.impl().get()) > 0; }

  void add(std::unique_ptr<Call> call);
  // What `make` makes, the first time. With is_overwritten its numbers are all written next, in each play.
  template <class Make>
  Tensor made(bool is_overwritten, Make make);
  // A tensor that was made to be overwritten and that nobody but this holds any more, or one without numbers.
  Tensor spare(const std::vector<int64_t>& shape, paddle::DataType dtype) const;

  // Ends the recording. Whether all that the calls were given is known: a tensor that another operation made would not change.
  bool ends_with(const Tensor& result);
  // The result of ends_with, computed anew.
  Tensor play(const std::vector<Tensor>& given);

 private:
  struct Given {
    Tensor* argument;
    size_t place;
  };

  std::vector<Tensor> given_, constant_;
  std::unordered_set<const void*> constants_, known_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<Tensor> made_, overwritten_;  // in order; and those that are to be overwritten, each once
  std::unordered_map<const void*, long> held_;  // how often this holds a tensor
  std::vector<Given> arguments_;
  Tensor result_;
  size_t next_ = 0;
  bool is_whole_ = true, is_playing_ = false;
};

template <class Make>
Tensor Recording::made(bool is_overwritten, Make make) {
  if (is_playing_) return made_[next_++];
  const Tensor tensor = make();
  const void* const identity = tensor.impl().get();
  made_.push_back(tensor), ++held_[identity];
  if (known_.insert(identity).second && is_overwritten) overwritten_.push_back(tensor), ++held_[identity];
  return tensor;
}

// An operation and its arguments.
template <class R, class... P>
struct RecordedCall : Recording::Call {
  R (*operation)(P...);
  std::tuple<std::decay_t<P>...> arguments;

  RecordedCall(R (*operation)(P...), std::decay_t<P>... given) : operation(operation), arguments(std::move(given)...) {
    std::apply([this](auto&... each) { (collect(each), ...); }, arguments);
  }
  void run() override { std::apply(operation, arguments); }

 private:
  void collect(Tensor& x) { tensors.push_back(&x); }
  void collect(paddle::optional<Tensor>& x) {
    if (x) tensors.push_back(&*x);
  }
  template <class T>
  void collect(T&) {}
};

}  // namespace qwenvl
