// The selective scan of Mamba on CPUs, forward and backward; a plain C interface, no torch or Python headers.
//
// A block is `lanes` neighbouring channels, one SIMD vector; all arithmetic is on blocks, so no sum over states
// needs a horizontal add. A group is the blocks that one task works through, chunk of time by chunk of time:
// gradients of B and C are sums over channels, kept a chunk long as vectors and added up once a chunk.
// States are stored at chunk borders only and computed anew inside a chunk on the way back.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.hpp"

namespace {

#ifndef SCAN_CHUNK
#define SCAN_CHUNK 32  // tokens whose states a core's caches hold in the backward pass
#endif
constexpr int64_t kChunk = SCAN_CHUNK;

}  // namespace

// ---- what Python hands over; mirrored in native.py ----

struct Job {
  int64_t batch, channels, length, states, groups, threads, softplus;
  View x, dt, B, C, z, y;      // z.data null: no gate; in the backward pass `y` is the gradient that comes in
  View dx, ddt, dz;            // gradients
  void *A, *D, *bias;          // [channels, states], [channels], [channels]; D and bias may be null
  void *initial, *last;        // [batch, channels, states]; `initial` may be null; backward: gradients
  uint8_t* resets;             // [batch, length] or null
  void* borders;               // [batch, chunks, states, channels rounded up to 16], or null: not kept
  void *dinitial, *dA;         // [batch, channels, states]
  void *dD, *dbias;            // [batch, channels]
  void *dB, *dC;               // [groups, batch, length, states]
};

namespace {

inline int64_t chunks_of(const Job& job) { return (job.length + kChunk - 1) / kChunk; }

// ---- tiles: [time][lane]; lanes past the last channel are 0 ----

template <class T>
void load_tile(const View& view, int64_t b, int64_t channel, int64_t width, int64_t first, int64_t steps,
               Vec<T>* tile) {
  constexpr int64_t lanes = Simd<T>::lanes;
  const T* from = static_cast<const T*>(view.data) + b * view.batch + channel * view.channel + first * view.time;
  T* to = reinterpret_cast<T*>(tile);
  if (view.channel == 1 && width == lanes) {
    for (int64_t t = 0; t < steps; ++t) std::memcpy(to + t * lanes, from + t * view.time, kVectorBytes);
    return;
  }
  std::memset(to, 0, steps * kVectorBytes);
  for (int64_t d = 0; d < width; ++d)
    for (int64_t t = 0; t < steps; ++t) to[t * lanes + d] = from[d * view.channel + t * view.time];
}

template <class T>
void store_tile(const View& view, int64_t b, int64_t channel, int64_t width, int64_t first, int64_t steps,
                const Vec<T>* tile) {
  constexpr int64_t lanes = Simd<T>::lanes;
  T* to = static_cast<T*>(view.data) + b * view.batch + channel * view.channel + first * view.time;
  const T* from = reinterpret_cast<const T*>(tile);
  if (view.channel == 1 && width == lanes) {
    for (int64_t t = 0; t < steps; ++t) std::memcpy(to + t * view.time, from + t * lanes, kVectorBytes);
    return;
  }
  for (int64_t d = 0; d < width; ++d)
    for (int64_t t = 0; t < steps; ++t) to[d * view.channel + t * view.time] = from[t * lanes + d];
}

// B or C of a chunk as [time][state].
template <class T>
void load_states(const View& view, int64_t b, int64_t states, int64_t first, int64_t steps, T* to) {
  const T* from = static_cast<const T*>(view.data) + b * view.batch + first * view.time;
  for (int64_t t = 0; t < steps; ++t)
    for (int64_t n = 0; n < states; ++n) to[t * states + n] = from[n * view.channel + t * view.time];
}

// [channels, states] of one block as [state][lane], and back.
template <class T>
void load_rows(const T* rows, int64_t width, int64_t states, Vec<T>* block) {
  for (int64_t d = 0; d < width; ++d)
    for (int64_t n = 0; n < states; ++n) block[n][d] = rows[d * states + n];
}

template <class T>
void store_rows(const Vec<T>* block, int64_t width, int64_t states, T* rows) {
  for (int64_t d = 0; d < width; ++d)
    for (int64_t n = 0; n < states; ++n) rows[d * states + n] = block[n][d];
}

template <class T>
Vec<T> load_channels(const void* data, int64_t channel, int64_t width) {
  Vec<T> lane{};
  if (data != nullptr)
    for (int64_t d = 0; d < width; ++d) lane[d] = static_cast<const T*>(data)[channel + d];
  return lane;
}

// ---- one task: one row of the batch, one group of blocks ----

template <class T>
struct Task {
  static constexpr int64_t lanes = Simd<T>::lanes;
  const Job& job;
  int64_t b, first_block, blocks, group;
  int64_t chunk = 0, first = 0, steps = 0;  // the chunk at work

  Task(const Job& j, int64_t row, int64_t g) : job(j), b(row), group(g) {
    const int64_t all = (j.channels + lanes - 1) / lanes;
    first_block = g * all / j.groups;
    blocks = (g + 1) * all / j.groups - first_block;
  }
  void enter(int64_t c) {
    chunk = c;
    first = c * kChunk;
    steps = std::min(kChunk, job.length - first);
  }
  int64_t channel(int64_t i) const { return (first_block + i) * lanes; }
  int64_t width(int64_t i) const { return std::min(lanes, job.channels - channel(i)); }
  T* state_rows(void* data, int64_t i) const {  // of [batch, channels, states]
    return static_cast<T*>(data) + (b * job.channels + channel(i)) * job.states;
  }
  T* border(int64_t i, int64_t n) const {
    const int64_t row = (b * chunks_of(job) + chunk) * job.states + n;
    return static_cast<T*>(job.borders) + row * rounded_up(job.channels, kPad) + channel(i);
  }
  const uint8_t* resets() const { return job.resets == nullptr ? nullptr : job.resets + b * job.length + first; }
  void load(const View& view, int64_t i, Vec<T>* tile) const {
    load_tile<T>(view, b, channel(i), width(i), first, steps, tile);
  }
  void store(const View& view, int64_t i, const Vec<T>* tile) const {
    store_tile<T>(view, b, channel(i), width(i), first, steps, tile);
  }
  // A of every block times log2(e): exp(dt A) is then a power of two.
  void load_decay_rates(Vec<T>* rates) const {
    for (int64_t i = 0; i < blocks; ++i) {
      Vec<T>* block = rates + i * job.states;
      load_rows<T>(static_cast<const T*>(job.A) + channel(i) * job.states, width(i), job.states, block);
      for (int64_t n = 0; n < job.states; ++n) block[n] *= static_cast<T>(kLog2E);
    }
  }
};

template <class T>
void to_delta(const Job& job, int64_t steps, Vec<T> bias, Vec<T>* dt) {
  for (int64_t t = 0; t < steps; ++t) {
    dt[t] += bias;
    if (job.softplus) dt[t] = softplus(dt[t]);
  }
}

// ---- forward ----

template <class T>
struct Tiles {  // of one block and one chunk
  Vec<T> *x, *dt, *z, *y;
};

template <class T, int kStates>
void forward_block(const Task<T>& task, const Tiles<T>& tile, const T* B, const T* C, const Vec<T>* rates,
                   Vec<T> skip, Vec<T>* state) {
  const int64_t states = kStates > 0 ? kStates : task.job.states;
  Vec<T> held[kStates > 0 ? kStates : 1];
  Vec<T>* h = kStates > 0 ? held : state;
  if (kStates > 0) std::copy(state, state + states, h);
  const uint8_t* resets = task.resets();
  for (int64_t t = 0; t < task.steps; ++t) {
    if (resets != nullptr && resets[t])
      for (int64_t n = 0; n < states; ++n) h[n] = Vec<T>{};
    const Vec<T> delta = tile.dt[t], inflow = delta * tile.x[t];
    Vec<T> y = skip * tile.x[t];
#pragma GCC unroll 16
    for (int64_t n = 0; n < states; ++n) {
      h[n] = pow2(delta * rates[n]) * h[n] + inflow * B[t * states + n];
      y += h[n] * C[t * states + n];
    }
    tile.y[t] = y;
  }
  if (kStates > 0) std::copy(h, h + states, state);
  if (task.job.z.data != nullptr)
    for (int64_t t = 0; t < task.steps; ++t) tile.y[t] *= tile.z[t] * sigmoid(tile.z[t]);
}

template <class T, int kStates>
void forward_task(const Job& job, int64_t b, int64_t group) {
  Task<T> task(job, b, group);
  const int64_t states = job.states, packed = (kChunk * states + Simd<T>::lanes - 1) / Simd<T>::lanes;
  Arena<T> arena(2 * task.blocks * states + 4 * kChunk + 2 * packed);
  Vec<T>*rates = arena.take(task.blocks * states), *state = arena.take(task.blocks * states);
  const Tiles<T> tile{arena.take(kChunk), arena.take(kChunk), arena.take(kChunk), arena.take(kChunk)};
  T *B = reinterpret_cast<T*>(arena.take(packed)), *C = reinterpret_cast<T*>(arena.take(packed));
  task.load_decay_rates(rates);
  if (job.initial != nullptr)
    for (int64_t i = 0; i < task.blocks; ++i)
      load_rows<T>(task.state_rows(job.initial, i), task.width(i), states, state + i * states);
  for (int64_t c = 0; c < chunks_of(job); ++c) {
    task.enter(c);
    load_states<T>(job.B, b, states, task.first, task.steps, B);
    load_states<T>(job.C, b, states, task.first, task.steps, C);
    for (int64_t i = 0; i < task.blocks; ++i) {
      if (job.borders != nullptr)
        for (int64_t n = 0; n < states; ++n) std::memcpy(task.border(i, n), &state[i * states + n], kVectorBytes);
      task.load(job.x, i, tile.x);
      task.load(job.dt, i, tile.dt);
      if (job.z.data != nullptr) task.load(job.z, i, tile.z);
      to_delta<T>(job, task.steps, load_channels<T>(job.bias, task.channel(i), task.width(i)), tile.dt);
      const Vec<T> skip = load_channels<T>(job.D, task.channel(i), task.width(i));
      forward_block<T, kStates>(task, tile, B, C, rates + i * states, skip, state + i * states);
      task.store(job.y, i, tile.y);
    }
  }
  for (int64_t i = 0; i < task.blocks; ++i)
    store_rows<T>(state + i * states, task.width(i), states, task.state_rows(job.last, i));
}

// ---- backward ----

template <class T>
struct Scratch {  // of one block and one chunk; `h` holds one state more than there are tokens
  Vec<T> *x, *raw, *dt, *z, *dy, *dx, *ddt, *dz, *h, *decay;
  explicit Scratch(Arena<T>& arena, int64_t states)
      : x(arena.take(kChunk)), raw(arena.take(kChunk)), dt(arena.take(kChunk)), z(arena.take(kChunk)),
        dy(arena.take(kChunk)), dx(arena.take(kChunk)), ddt(arena.take(kChunk)), dz(arena.take(kChunk)),
        h(arena.take((kChunk + 1) * states)), decay(arena.take(kChunk * states)) {}
  static int64_t vectors(int64_t states) { return 8 * kChunk + (2 * kChunk + 1) * states; }
};

template <class T>
struct Sums {  // dh, dA, dD, dbias of one block grow from chunk to chunk; dB, dC are summed over blocks in a chunk
  Vec<T> *dh, *dA, *dD, *dbias, *dB, *dC;
};

// The states of a chunk anew, and the gradient of the output taken back through the gate.
template <class T, int kStates>
void recompute(const Task<T>& task, const Scratch<T>& s, const T* B, const T* C, const Vec<T>* rates, Vec<T> skip) {
  const int64_t states = kStates > 0 ? kStates : task.job.states;
  const uint8_t* resets = task.resets();
  const bool gated = task.job.z.data != nullptr;
  for (int64_t t = 0; t < task.steps; ++t) {
    const Vec<T> delta = s.dt[t], inflow = delta * s.x[t];
    const Vec<T>* before = s.h + t * states;
    Vec<T>*after = s.h + (t + 1) * states, *decay = s.decay + t * states;
    const T keep = resets != nullptr && resets[t] ? 0 : 1;
    Vec<T> y = skip * s.x[t];
#pragma GCC unroll 16
    for (int64_t n = 0; n < states; ++n) {
      decay[n] = pow2(delta * rates[n]) * keep;
      after[n] = decay[n] * before[n] + inflow * B[t * states + n];
      y += after[n] * C[t * states + n];
    }
    s.dz[t] = y;
  }
  for (int64_t t = 0; gated && t < task.steps; ++t) {
    const Vec<T> open = sigmoid(s.z[t]), silu = s.z[t] * open;
    s.dz[t] *= s.dy[t] * (open + silu * (T(1) - open));
    s.dy[t] *= silu;
  }
}

// From the last token of a chunk to its first.
template <class T, int kStates>
void reverse(const Task<T>& task, const Scratch<T>& s, const T* B, const T* C, const Vec<T>* rates, Vec<T> skip,
             const Sums<T>& sums) {
  const int64_t states = kStates > 0 ? kStates : task.job.states;
  Vec<T> held[kStates > 0 ? kStates : 1];
  Vec<T>* carried = kStates > 0 ? held : sums.dh;
  if (kStates > 0) std::copy(sums.dh, sums.dh + states, carried);
  for (int64_t t = task.steps - 1; t >= 0; --t) {
    const Vec<T> delta = s.dt[t], x = s.x[t], dy = s.dy[t], inflow = delta * x;
    const Vec<T>*before = s.h + t * states, *after = before + states, *decay = s.decay + t * states;
    Vec<T>*dB = sums.dB + t * states, *dC = sums.dC + t * states;
    Vec<T> through_decay{}, through_inflow{};
#pragma GCC unroll 16
    for (int64_t n = 0; n < states; ++n) {
      const Vec<T> dh = carried[n] + dy * C[t * states + n];
      dC[n] += after[n] * dy;
      dB[n] += dh * inflow;
      through_inflow += dh * B[t * states + n];
      const Vec<T> back = dh * decay[n], dlog = back * before[n];
      carried[n] = back;
      through_decay += dlog * rates[n];
      sums.dA[n] += dlog * delta;
    }
    s.dx[t] = through_inflow * delta + dy * skip;
    *sums.dD += dy * x;
    s.ddt[t] = through_decay * static_cast<T>(kLn2) + through_inflow * x;
  }
  if (kStates > 0) std::copy(carried, carried + states, sums.dh);
  for (int64_t t = 0; t < task.steps; ++t) {
    if (task.job.softplus) {
      const Vec<T> zero{}, slope = sigmoid(s.raw[t]);
      s.ddt[t] = s.raw[t] > zero + T(20) ? s.ddt[t] : s.ddt[t] * slope;
    }
    *sums.dbias += s.ddt[t];
  }
}

// Vectors of a chunk, [time][state][lane], summed over lanes into [groups, batch, length, states]; zeroed after.
template <class T>
void flush(const Task<T>& task, Vec<T>* sums, void* into) {
  const Job& job = task.job;
  T* to = static_cast<T*>(into) + ((task.group * job.batch + task.b) * job.length + task.first) * job.states;
  for (int64_t k = 0; k < task.steps * job.states; ++k) {
    T total = 0;
    for (int64_t lane = 0; lane < Simd<T>::lanes; ++lane) total += sums[k][lane];
    to[k] = total;
    sums[k] = Vec<T>{};
  }
}

template <class T, int kStates>
void backward_block(const Task<T>& task, int64_t i, const Scratch<T>& s, const T* B, const T* C,
                    const Vec<T>* rates, const Sums<T>& sums) {
  const Job& job = task.job;
  const int64_t channel = task.channel(i), width = task.width(i);
  for (int64_t n = 0; n < job.states; ++n) std::memcpy(&s.h[n], task.border(i, n), kVectorBytes);
  task.load(job.x, i, s.x);
  task.load(job.dt, i, s.raw);
  task.load(job.y, i, s.dy);
  if (job.z.data != nullptr) task.load(job.z, i, s.z);
  const Vec<T> skip = load_channels<T>(job.D, channel, width), bias = load_channels<T>(job.bias, channel, width);
  std::copy(s.raw, s.raw + task.steps, s.dt);
  to_delta<T>(job, task.steps, bias, s.dt);
  for (int64_t t = 0; t < task.steps; ++t) s.raw[t] += bias;
  recompute<T, kStates>(task, s, B, C, rates, skip);
  reverse<T, kStates>(task, s, B, C, rates, skip, sums);
  task.store(job.dx, i, s.dx);
  task.store(job.ddt, i, s.ddt);
  if (job.z.data != nullptr) task.store(job.dz, i, s.dz);
}

template <class T, int kStates>
void backward_task(const Job& job, int64_t b, int64_t group) {
  Task<T> task(job, b, group);
  const int64_t states = job.states, all = task.blocks * states;
  const int64_t packed = (kChunk * states + Simd<T>::lanes - 1) / Simd<T>::lanes;
  Arena<T> arena(3 * all + 2 * task.blocks + 2 * kChunk * states + 2 * packed + Scratch<T>::vectors(states));
  Vec<T>*rates = arena.take(all), *dh = arena.take(all), *dA = arena.take(all);
  Vec<T>*dD = arena.take(task.blocks), *dbias = arena.take(task.blocks);
  Vec<T>*dB = arena.take(kChunk * states), *dC = arena.take(kChunk * states);
  T *B = reinterpret_cast<T*>(arena.take(packed)), *C = reinterpret_cast<T*>(arena.take(packed));
  const Scratch<T> scratch(arena, states);
  task.load_decay_rates(rates);
  for (int64_t i = 0; i < task.blocks && job.last != nullptr; ++i)
    load_rows<T>(task.state_rows(job.last, i), task.width(i), states, dh + i * states);
  for (int64_t c = chunks_of(job) - 1; c >= 0; --c) {
    task.enter(c);
    load_states<T>(job.B, b, states, task.first, task.steps, B);
    load_states<T>(job.C, b, states, task.first, task.steps, C);
    for (int64_t i = 0; i < task.blocks; ++i) {
      const Sums<T> sums{dh + i * states, dA + i * states, dD + i, dbias + i, dB, dC};
      backward_block<T, kStates>(task, i, scratch, B, C, rates + i * states, sums);
    }
    flush<T>(task, dB, job.dB);
    flush<T>(task, dC, job.dC);
  }
  for (int64_t i = 0; i < task.blocks; ++i) {
    const int64_t width = task.width(i), at = b * job.channels + task.channel(i);
    store_rows<T>(dh + i * states, width, states, task.state_rows(job.dinitial, i));
    store_rows<T>(dA + i * states, width, states, task.state_rows(job.dA, i));
    std::memcpy(static_cast<T*>(job.dD) + at, dD + i, width * sizeof(T));
    std::memcpy(static_cast<T*>(job.dbias) + at, dbias + i, width * sizeof(T));
  }
}

// ---- tasks over threads ----

template <class T>
void run(const Job& job, bool back) {
  const bool usual = job.states == 16;  // the size of all published Mamba models, compiled with unrolled loops
  const auto forward = usual ? forward_task<T, 16> : forward_task<T, 0>;
  const auto backward = usual ? backward_task<T, 16> : backward_task<T, 0>;
  const auto work = back ? backward : forward;
#pragma omp parallel for num_threads(static_cast<int>(job.threads)) schedule(dynamic)
  for (int64_t k = 0; k < job.batch * job.groups; ++k) work(job, k / job.groups, k % job.groups);
}

}  // namespace

extern "C" {
int64_t scan_chunk() { return kChunk; }
void scan_forward_float(const Job* job) { run<float>(*job, false); }
void scan_forward_double(const Job* job) { run<double>(*job, false); }
void scan_backward_float(const Job* job) { run<float>(*job, true); }
void scan_backward_double(const Job* job) { run<double>(*job, true); }
}
