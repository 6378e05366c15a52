// Mamba's short causal convolution, a channel at a time, with SiLU behind it; forward and backward.
//
// Channels lie side by side in memory, as a linear layer leaves them: a task works through the tokens and, of each,
// through its channels, a vector at a time. u is what comes before SiLU and is computed anew on the way back.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.hpp"

// ---- what Python hands over; mirrored in convolution.py ----

struct Convolution {
  int64_t batch, channels, length, taps, groups, threads, silu;
  View x, y, dx;           // channel strides are 1; in the backward pass `y` is the gradient that comes in
  void *weight, *bias;     // [taps, channels], [channels]; bias may be null
  void *dweight, *dbias;   // [batch, taps, channels], [batch, channels]
};

namespace {

template <class T>
Vec<T> load(const T* from, int64_t width) {
  Vec<T> lane{};
  if (width == Simd<T>::lanes)
    std::memcpy(&lane, from, kVectorBytes);
  else
    std::memcpy(&lane, from, width * sizeof(T));
  return lane;
}

template <class T>
void store(T* to, Vec<T> lane, int64_t width) {
  if (width == Simd<T>::lanes)
    std::memcpy(to, &lane, kVectorBytes);
  else
    std::memcpy(to, &lane, width * sizeof(T));
}

// One row of the batch, one group of blocks of channels; kTaps 0: any number.
template <class T, int kTaps>
struct Task {
  static constexpr int64_t lanes = Simd<T>::lanes;
  const Convolution& job;
  int64_t b, first_block, blocks, taps;
  Arena<T> arena;
  Vec<T>*weight, *bias;  // [taps][block], [block]

  Task(const Convolution& j, int64_t row, int64_t group, int64_t more)
      : job(j), b(row), taps(kTaps > 0 ? kTaps : j.taps), arena((j.channels / lanes + 1) * (2 * j.taps + 2 + more)) {
    const int64_t all = (j.channels + lanes - 1) / lanes;
    first_block = group * all / j.groups;
    blocks = (group + 1) * all / j.groups - first_block;
    weight = arena.take(taps * blocks);
    bias = arena.take(blocks);
    for (int64_t i = 0; i < blocks; ++i) {
      for (int64_t k = 0; k < taps; ++k)
        weight[k * blocks + i] = load(static_cast<const T*>(j.weight) + k * j.channels + channel(i), width(i));
      if (j.bias != nullptr) bias[i] = load(static_cast<const T*>(j.bias) + channel(i), width(i));
    }
  }
  int64_t channel(int64_t i) const { return (first_block + i) * lanes; }
  int64_t width(int64_t i) const { return std::min(lanes, job.channels - channel(i)); }
  T* row(const View& view, int64_t t) const {
    return static_cast<T*>(view.data) + b * view.batch + t * view.time + channel(0);
  }
  Vec<T> before_silu(int64_t t, int64_t i) const {
    Vec<T> u = bias[i];
#pragma GCC unroll 8
    for (int64_t k = 0; k < taps; ++k)
      if (const int64_t s = t - taps + 1 + k; s >= 0) u += weight[k * blocks + i] * load(row(job.x, s) + i * lanes, width(i));
    return u;
  }
};

template <class T, int kTaps>
void forward_task(const Convolution& job, int64_t b, int64_t group) {
  const Task<T, kTaps> task(job, b, group, 0);
  for (int64_t t = 0; t < job.length; ++t) {
    T* y = task.row(job.y, t);
    for (int64_t i = 0; i < task.blocks; ++i) {
      const Vec<T> u = task.before_silu(t, i);
      store(y + i * task.lanes, job.silu ? u * sigmoid(u) : u, task.width(i));
    }
  }
}

template <class T, int kTaps>
void backward_task(const Convolution& job, int64_t b, int64_t group) {
  Task<T, kTaps> task(job, b, group, job.taps);
  const int64_t taps = task.taps, blocks = task.blocks, lanes = task.lanes;
  Vec<T>*dweight = task.arena.take(taps * blocks), *dbias = task.arena.take(blocks);
  Vec<T>* ring = task.arena.take(taps * blocks);  // du of the last `taps` tokens, that of t at t modulo taps
  for (int64_t t = 0; t < job.length + taps - 1; ++t) {
    const int64_t past = t - taps + 1;  // its gradient is complete after t
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t width = task.width(i);
      Vec<T> du{};
      if (t < job.length) {
        du = load(task.row(job.y, t) + i * lanes, width);
        if (job.silu) {
          const Vec<T> u = task.before_silu(t, i), open = sigmoid(u);
          du *= open + u * open * (T(1) - open);
        }
        dbias[i] += du;
#pragma GCC unroll 8
        for (int64_t k = 0; k < taps; ++k)
          if (past + k >= 0) dweight[k * blocks + i] += du * load(task.row(job.x, past + k) + i * lanes, width);
      }
      ring[t % taps * blocks + i] = du;
      if (past < 0) continue;
      Vec<T> dx{};
#pragma GCC unroll 8
      for (int64_t k = 0; k < taps; ++k) dx += task.weight[(taps - 1 - k) * blocks + i] * ring[(past + k) % taps * blocks + i];
      store(task.row(job.dx, past) + i * lanes, dx, width);
    }
  }
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t at = task.channel(i), width = task.width(i);
    for (int64_t k = 0; k < taps; ++k)
      store(static_cast<T*>(job.dweight) + (b * taps + k) * job.channels + at, dweight[k * blocks + i], width);
    store(static_cast<T*>(job.dbias) + b * job.channels + at, dbias[i], width);
  }
}

template <class T>
void run(const Convolution& job, bool back) {
  const bool usual = job.taps == 4;
  const auto forward = usual ? forward_task<T, 4> : forward_task<T, 0>;
  const auto backward = usual ? backward_task<T, 4> : backward_task<T, 0>;
  const auto work = back ? backward : forward;
#pragma omp parallel for num_threads(static_cast<int>(job.threads)) schedule(dynamic)
  for (int64_t k = 0; k < job.batch * job.groups; ++k) work(job, k / job.groups, k % job.groups);
}

}  // namespace

extern "C" {
void convolution_forward_float(const Convolution* job) { run<float>(*job, false); }
void convolution_forward_double(const Convolution* job) { run<double>(*job, false); }
void convolution_backward_float(const Convolution* job) { run<float>(*job, true); }
void convolution_backward_double(const Convolution* job) { run<double>(*job, true); }
}
