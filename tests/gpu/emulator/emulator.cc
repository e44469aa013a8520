// Runs a block's threads as fibers, one at a time, each until it waits for others. Which of the threads that could go on
// goes on next is a choice: kernels that lack a barrier give other results in another order.
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {
namespace {

constexpr int WARP = 32, MOST_THREADS = 1024;
constexpr size_t STACK = 1 << 18;

enum Order { FIRST_COME, LAST_COME, AT_RANDOM } order = FIRST_COME;
int multiprocessors = 4, compute_capability = 90;

struct Fiber {
  jmp_buf state;
  ucontext_t start;
  std::unique_ptr<char[]> stack;
  int parity = 0;
};
struct Warp {
  char given[2][WARP][16];  // by turns, so that nobody gives before all have taken
  int arrived = 0;
};

Fiber fibers[MOST_THREADS];
Warp warps[MOST_THREADS / WARP];
jmp_buf scheduler;
std::deque<int> ready;
std::vector<int> at_barrier;
int current, finished;
const std::function<void()>* kernel;
std::minstd_rand chance;

void give_way() {
  if (!_setjmp(fibers[current].state)) _longjmp(scheduler, 1);
}

void live() {  // a fiber is made once and then takes part in block after block
  for (;;) {
    (*kernel)();
    ++finished;
    give_way();
  }
}

void resume(int thread) {
  current = thread;
  threadIdx = dim3(thread);
  threadIdx.y = threadIdx.z = 0;
  Fiber& fiber = fibers[thread];
  if (_setjmp(scheduler)) return;
  if (fiber.stack) _longjmp(fiber.state, 1);
  fiber.stack.reset(new char[STACK]);
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = STACK;
  makecontext(&fiber.start, live, 0);
  setcontext(&fiber.start);
}

int next() {
  size_t at = order == FIRST_COME ? 0 : order == LAST_COME ? ready.size() - 1 : chance() % ready.size();
  const int thread = ready[at];
  ready.erase(ready.begin() + at);
  return thread;
}

void run_block(int threads) {
  finished = 0;
  for (int t = 0; t < threads; ++t) ready.push_back(t);
  while (finished < threads) {
    if (ready.empty()) {
      if (finished || (int)at_barrier.size() < threads) {
        fprintf(stderr, "emulator: block (%u, %u, %u) waits for ever: of %d threads %zu are at a barrier, %d have ended\n",
                blockIdx.x, blockIdx.y, blockIdx.z, threads, at_barrier.size(), finished);
        abort();
      }
      ready.assign(at_barrier.begin(), at_barrier.end());
      at_barrier.clear();
    }
    resume(next());
  }
}

}  // namespace

void wait_for_block() {
  at_barrier.push_back(current);
  give_way();
}

void exchange(const void* value, size_t size, int source, void* taken) {
  const int thread = current;
  Warp& warp = warps[thread / WARP];
  const int turn = fibers[thread].parity;
  fibers[thread].parity = 1 - turn;
  memcpy(warp.given[turn][thread % WARP], value, size);
  if (++warp.arrived == WARP) {
    warp.arrived = 0;
    for (int lane = 0; lane < WARP; ++lane) ready.push_back(thread / WARP * WARP + lane);
  }
  give_way();
  memcpy(taken, warp.given[turn][source], size);
}

int lane() { return current % WARP; }
int processors() { return multiprocessors; }
int capability() { return compute_capability; }

cudaError_t run(dim3 grid, dim3 block, const std::function<void()>& body) {
  if (block.x > MOST_THREADS || block.x % WARP || block.y != 1 || block.z != 1 || grid.x > 0x7fffffff ||
      grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  gridDim = grid, blockDim = block, kernel = &body;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block(block.x);
  return cudaSuccess;
}

}  // namespace emulator

extern "C" void emulate(int threads_order, int processors, int capability) {
  emulator::order = (emulator::Order)threads_order;
  emulator::multiprocessors = processors;
  emulator::compute_capability = capability;
}
