// What the kernels of this folder share: vectors, their functions, scratch memory.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

struct View {  // strides in elements; of the scan's B and C `channel` is the state; mirrored in native.py
  void* data;
  int64_t batch, channel, time;
};

namespace {

constexpr int64_t kAlign = 64;
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif
constexpr int64_t kPad = 16;  // channels; every number of lanes divides it

inline int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// ---- vectors ----

template <class T>
struct Simd {
  typedef T type __attribute__((vector_size(kVectorBytes)));
  static constexpr int64_t lanes = kVectorBytes / sizeof(T);
};
template <class T>
using Vec = typename Simd<T>::type;
typedef int32_t Bits __attribute__((vector_size(kVectorBytes)));

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

// 2^y to one unit in the last place; below 2^-126 it is 0, above 2^127.5 infinite. Polynomial: Cephes, exp2f.c.
inline Vec<float> pow2(Vec<float> y) {
  const Vec<float> zero{};
  const Vec<float> low = zero - 127.0f, high = zero + 128.0f;
  y = y < low ? low : y;  // in this order not-a-number stays
  y = y > high ? high : y;
  const float shift = 12582912.0f + 127.0f;  // adding 1.5 * 2^23 rounds to a whole number in the low bits
  const Vec<float> rounded = y + shift;
  const Vec<float> part = y - (rounded - shift);
  Vec<float> p = part * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * part + 9.618437357674640e-3f;
  p = p * part + 5.550332471162809e-2f;
  p = p * part + 2.402264791363012e-1f;
  p = p * part + 6.931472028550421e-1f;
  p = p * part + 1.0f;
  return p * reinterpret_cast<Vec<float>>(reinterpret_cast<Bits>(rounded) << 23);
}

inline Vec<double> pow2(Vec<double> y) {
  for (int i = 0; i < Simd<double>::lanes; ++i) y[i] = std::exp2(y[i]);
  return y;
}

// log(1 + w) for w in [0, 1], from log(1 + w) = 2 artanh(w / (2 + w)).
inline Vec<float> log1p_unit(Vec<float> w) {
  const Vec<float> s = w / (w + 2.0f), q = s * s;
  Vec<float> p = q * (1.0f / 13) + 1.0f / 11;
  p = p * q + 1.0f / 9;
  p = p * q + 1.0f / 7;
  p = p * q + 1.0f / 5;
  p = p * q + 1.0f / 3;
  p = p * q + 1.0f;
  return 2.0f * s * p;
}

inline Vec<double> log1p_unit(Vec<double> w) {
  for (int i = 0; i < Simd<double>::lanes; ++i) w[i] = std::log1p(w[i]);
  return w;
}

template <class V>
using Element = std::remove_reference_t<decltype(std::declval<V&>()[0])>;

template <class V>
inline V softplus(V v) {  // the identity above 20, as in torch
  using T = Element<V>;
  const V zero{}, size = v < zero ? -v : v;
  const V soft = (v > zero ? v : zero) + log1p_unit(pow2(size * T(-kLog2E)));
  return v > zero + T(20) ? v : soft;
}

template <class V>
inline V sigmoid(V v) {
  using T = Element<V>;
  return T(1) / (T(1) + pow2(v * T(-kLog2E)));
}

// Scratch memory of one task, zeroed and aligned for vectors.
template <class T>
class Arena {
 public:
  explicit Arena(int64_t vectors) {
    const int64_t bytes = rounded_up(vectors * kVectorBytes, kAlign);
    data_ = static_cast<char*>(std::aligned_alloc(kAlign, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    std::memset(data_, 0, bytes);
    next_ = data_;
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { std::free(data_); }
  Vec<T>* take(int64_t vectors) {
    char* taken = next_;
    next_ += vectors * kVectorBytes;
    return reinterpret_cast<Vec<T>*>(taken);
  }

 private:
  char *data_, *next_;
};

}  // namespace
