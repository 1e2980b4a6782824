// The loop over samples, compiled once for every instruction set (WAVESYNTH_ISA, of WAVESYNTH_LANES floats a register).
//
// Everything here has internal linkage, and nothing here instantiates a template of the standard library: the linker keeps one
// copy of those for the whole library, which could be the copy for a processor that this machine does not have.
#include <cstdint>
#include <cstring>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "native.h"

namespace wavesynth {
namespace {

constexpr int kLanes = WAVESYNTH_LANES;
constexpr int kCodes = 256;
typedef float Floats __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef uint16_t Half;  // a bfloat16

inline Floats load(const float* p) { return *reinterpret_cast<const Floats*>(p); }
inline void store(float* p, Floats x) { *reinterpret_cast<Floats*>(p) = x; }
inline Floats splat(float x) { return x - Floats{}; }
inline Floats clamped(Floats x, float low, float high) {
  x = x > splat(low) ? x : splat(low);
  return x < splat(high) ? x : splat(high);
}

// ---- functions -----------------------------------------------------------------------------------------------------

// Relative error below 2e-7 (Cephes' polynomial). Arguments are clamped to [-87, 88].
inline Floats exp(Floats x) {
  x = clamped(x, -87.0f, 88.0f);
  const Floats magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which its low bits then hold
  const Floats shifted = x * 1.44269504f + magic;
  const Floats n = shifted - magic;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + (reinterpret_cast<Ints>(shifted) << 23));
}

// tanh(z[:C]) sigmoid(z[C:]), with one division: tanh(a) = (1 - e) / (1 + e), e = exp(-2 a); sigmoid(b) = 1 / (1 + f),
// f = exp(-b). Writes whole registers: `gated` is padded.
void gate(const float* z, int channels, float* gated) {
  for (int c = 0; c < channels; c += kLanes) {
    const Floats e = exp(-2.0f * clamped(load(z + c), -20.0f, 20.0f));
    const Floats f = exp(-clamped(load(z + channels + c), -40.0f, 40.0f));
    store(gated + c, (1.0f - e) / ((1.0f + e) * (1.0f + f)));
  }
}

void exp_all(float* values, int size) {
  int i = 0;
  for (; i + kLanes <= size; i += kLanes) store(values + i, exp(load(values + i)));
  for (; i < size; ++i) values[i] = exp(splat(values[i]))[0];
}

void relu(float* values, int size) {
  for (int i = 0; i < size; ++i) values[i] = values[i] > 0 ? values[i] : 0;
}

void copy(const float* from, int size, float* to) { std::memcpy(to, from, size * sizeof(float)); }

// ---- products ------------------------------------------------------------------------------------------------------

constexpr int kPanel = kPanelColumns, kPanelRegisters = kPanel / kLanes;
// The tile of sums for several streams: as large as the registers allow.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileRegisters = kLanes == 16 ? 2 : 4, kTileStreams = kLanes == 16 ? 8 : 4;
#else
constexpr int kTileRegisters = 2, kTileStreams = 6;
#endif

// Keeps the compiler from reading a value from memory again for every use: reads are what limits products.
inline void keep_in_register(Ints& value) {
#if defined(__x86_64__)
  __asm__("" : "+v"(value));
#elif defined(__aarch64__)
  __asm__("" : "+w"(value));
#endif
}

// How many rows of weights lie side by side.
template <class Weight>
constexpr int kAbreast = 1;
template <>
constexpr int kAbreast<Half> = 2;

// The inputs of a product, [streams][stride], in the form that its weights need.
template <class Weight>
struct Inputs {
  const float* x;
  int64_t stride;

  Inputs from(int s, int row) const { return {x + s * stride + row, stride}; }
};

// sums[s] += the first N rows of weights, which lie side by side at m, by the first N inputs of S streams.
template <int N, int S, int V>
inline void add_rows(const float* m, Inputs<float> in, Floats (&sums)[S][V]) {
  Floats weights[V];
  for (int v = 0; v < V; ++v) weights[v] = load(m + v * kLanes);
  for (int s = 0; s < S; ++s)
    for (int v = 0; v < V; ++v) sums[s][v] += weights[v] * in.x[s * in.stride];
}

#ifdef __AVX512BF16__
// Inputs rounded to bfloat16, in pairs. A processor that multiplies pairs and adds them up in float32 does two multiply-adds in
// one instruction, and need not convert the weights.
template <>
struct Inputs<Half> {
  const int32_t* pairs;
  int64_t stride;

  Inputs from(int s, int row) const { return {pairs + s * stride + row / 2, stride}; }
};

void round_to_pairs(const float* x, int rows, int32_t* pairs) {
  const auto some = [](int count) { return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); };
  for (int i = 0; i < rows; i += 32) {
    const __m512 first = _mm512_maskz_loadu_ps(some(rows - i), x + i);
    const __m512 second = _mm512_maskz_loadu_ps(some(rows - i - 16), x + i + 16);
    _mm512_storeu_si512(pairs + i / 2, (__m512i)_mm512_cvtne2ps_pbh(second, first));
  }
}

inline Inputs<Half> inputs_of(const Half*, const float* x, int stride, int rows, int streams, int32_t* pairs) {
  const int pairs_stride = (rows + 31) / 32 * 16;
  for (int s = 0; s < streams; ++s) round_to_pairs(x + s * stride, rows, pairs + s * pairs_stride);
  return {pairs, pairs_stride};
}

template <int N, int S, int V>
inline void add_rows(const Half* m, Inputs<Half> in, Floats (&sums)[S][V]) {
  __m512bh weights[V];
  for (int v = 0; v < V; ++v) weights[v] = (__m512bh)_mm512_loadu_si512(m + 2 * v * kLanes);
  for (int s = 0; s < S; ++s) {
    const __m512bh pair = (__m512bh)_mm512_set1_epi32(in.pairs[s * in.stride]);
    for (int v = 0; v < V; ++v) sums[s][v] = (Floats)_mm512_dpbf16_ps((__m512)sums[s][v], weights[v], pair);
  }
}
#else
template <int N, int S, int V>
inline void add_rows(const Half* m, Inputs<Half> in, Floats (&sums)[S][V]) {
  Ints pairs[V];
  for (int v = 0; v < V; ++v) {
    pairs[v] = *reinterpret_cast<const Ints*>(m + 2 * v * kLanes);
    if (S == 1) keep_in_register(pairs[v]);
  }
  for (int n = 0; n < N; ++n)
    for (int s = 0; s < S; ++s)
      for (int v = 0; v < V; ++v) {
        const Ints bits = n ? pairs[v] & static_cast<int32_t>(0xffff0000) : pairs[v] << 16;
        sums[s][v] += reinterpret_cast<const Floats&>(bits) * in.x[s * in.stride + n];
      }
}
#endif

template <class Weight>
inline Inputs<Weight> inputs_of(const Weight*, const float* x, int stride, int, int, int32_t*) {
  return {x, stride};
}

// One tile of registers: y[s] += x[s] @ m for S streams and V registers of each of P panels, `apart` weights from each other.
template <int S, int V, int P, class Weight>
inline void add_tile(const Weight* m, int64_t apart, int rows, Inputs<Weight> in, float* y, int y_stride) {
  constexpr int N = kAbreast<Weight>;
  Floats sums[P][S][V] = {};
  for (; rows >= N; rows -= N, m += N * kPanel, in = in.from(0, N))
    for (int p = 0; p < P; ++p) add_rows<N>(m + p * apart, in, sums[p]);
  if (rows)
    for (int p = 0; p < P; ++p) add_rows<1>(m + p * apart, in, sums[p]);
  for (int p = 0; p < P; ++p)
    for (int s = 0; s < S; ++s) {
      float* to = y + p * kPanel + s * y_stride;
      for (int v = 0; v < V; ++v) store(to + v * kLanes, load(to + v * kLanes) + sums[p][s][v]);
    }
}

// The same for any number of streams: tiles of as many as the registers allow, and smaller ones for the rest.
template <int P, class Weight>
inline void add_tiles(const Weight* m, int64_t apart, int rows, Inputs<Weight> in, float* y, int y_stride, int streams) {
  constexpr int V = kTileRegisters, S = kTileStreams / P;
  int s = 0;
  for (; s + S <= streams; s += S) add_tile<S, V, P>(m, apart, rows, in.from(s, 0), y + s * y_stride, y_stride);
  if constexpr (S > 4)
    if (s + 4 == streams) {  // at once: one stream alone would wait for each of its sums
      add_tile<4, V, P>(m, apart, rows, in.from(s, 0), y + s * y_stride, y_stride);
      return;
    }
  if constexpr (S > 3)
    for (; s + 3 <= streams; s += 3) add_tile<3, V, P>(m, apart, rows, in.from(s, 0), y + s * y_stride, y_stride);
  for (; s + 2 <= streams; s += 2) add_tile<2, V, P>(m, apart, rows, in.from(s, 0), y + s * y_stride, y_stride);
  for (; s < streams; ++s) add_tile<1, V, P>(m, apart, rows, in.from(s, 0), y + s * y_stride, y_stride);
}

// y += x @ m for one stream and one panel, in the order of memory. Several sums run side by side: the result of one multiply-add
// is ready only after seven others have been issued.
template <class Weight>
inline void add_panel(const Weight* m, int rows, Inputs<Weight> in, float* y) {
  constexpr int V = kPanelRegisters, R = V >= 8 ? 1 : 8 / V, N = kAbreast<Weight>;
  Floats sums[R][1][V] = {};
  for (; rows >= R * N; rows -= R * N, m += R * N * kPanel, in = in.from(0, R * N))
    for (int r = 0; r < R; ++r) add_rows<N>(m + r * N * kPanel, in.from(0, r * N), sums[r]);
  for (; rows >= N; rows -= N, m += N * kPanel, in = in.from(0, N)) add_rows<N>(m, in, sums[0]);
  if (rows) add_rows<1>(m, in, sums[0]);
  for (int r = 1; r < R; ++r)
    for (int v = 0; v < V; ++v) sums[0][0][v] += sums[r][0][v];
  for (int v = 0; v < V; ++v) store(y + v * kLanes, load(y + v * kLanes) + sums[0][0][v]);
}

template <class Weight>
void add_product_of(const void* data, int index, int rows, int columns, int first, int last, const float* x, int x_stride, float* y,
                    int y_stride, int streams, int32_t* pairs) {
  constexpr int N = kAbreast<Weight>, kPart = kTileRegisters * kLanes;
  const int64_t apart = (rows + N - 1) / N * N * kPanel;  // one panel from the next
  const Weight* m = static_cast<const Weight*>(data) + index * apart * ((columns + kPanel - 1) / kPanel);
  const Inputs<Weight> in = inputs_of(m, x, x_stride, rows, streams, pairs);
  for (int column = first; column < last;) {
    const Weight* panel = m + column / kPanel * apart;
    if (streams == 1) {
      add_panel(panel, rows, in, y + column);
      column += kPanel;
      continue;
    }
    // Few streams use more of the registers by two panels at once.
    const bool two = kPart == kPanel && streams < kTileStreams && column + kPanel < last;
    for (int part = 0; part < kPanel; part += kPart) {
      const Weight* from = panel + part * N;
      float* to = y + column + part;
      if (two) {
        add_tiles<2>(from, apart, rows, in, to, y_stride, streams);
      } else {
        add_tiles<1>(from, apart, rows, in, to, y_stride, streams);
      }
    }
    column += two ? 2 * kPanel : kPanel;
  }
}

// y[s] += x[s] @ m for each stream, for columns [first, last), in whole panels. m is matrix `index` of a stack [rows, columns]
// of either type. `pairs` is room for [streams][half the next multiple of 32 rows].
void add_product(const Matrix& m, int index, int rows, int columns, int first, int last, const float* x, int x_stride, float* y,
                 int y_stride, int streams, int32_t* pairs) {
  const auto add = m.bf16 ? add_product_of<Half> : add_product_of<float>;
  add(m.data, index, rows, columns, first, last, x, x_stride, y, y_stride, streams, pairs);
}

// ---- one sample ----------------------------------------------------------------------------------------------------

int padded(int size) { return (size + kPanel + 15) / 16 * 16; }  // room for whole panels behind the end

// The scratch of some streams, each [streams][stride].
struct Scratch {
  int history_stride, past_stride, white_stride, x_stride, z_stride, gated_stride, skip_stride, head_stride, out_stride;
  float *history, *past, *white, *x, *z, *gated, *skip, *head, *out;
  int32_t* pairs;  // see `add_product`

  static int64_t floats(const Call& call, int streams) {
    Scratch scratch;
    return scratch.lay_out(call, streams, nullptr);
  }

  int64_t lay_out(const Call& call, int streams, float* memory) {
    int64_t used = 0;
    auto place = [&](int size, int& stride) {
      stride = padded(size);
      float* at = memory ? memory + used : nullptr;
      used += static_cast<int64_t>(stride) * streams;
      return at;
    };
    history = place(call.history + call.steps, history_stride);
    past = place(call.inputs, past_stride);
    white = place(call.inputs, white_stride);
    x = place(call.width * call.channels, x_stride);  // a layer's taps, oldest first; the newest is the residual path
    z = place(2 * call.channels, z_stride);
    gated = place(call.channels, gated_stride);
    skip = place(call.skip_channels, skip_stride);
    head = place(call.head_channels, head_stride);
    out = place(call.outputs, out_stride);
    int widest = call.inputs, unused;
    if (call.channels > widest) widest = call.channels;
    if (call.skip_channels > widest) widest = call.skip_channels;
    if (call.head_channels > widest) widest = call.head_channels;
    pairs = reinterpret_cast<int32_t*>(place((widest + 1) / 2, unused));
    return used;
  }
};

void read_history(const Call& call, int first, int streams, const Scratch& w) {
  for (int s = 0; s < streams; ++s)
    for (int t = 0; t < call.history; ++t) w.history[s * w.history_stride + t] = call.recent[t * call.batch + first + s];
}

void write_history(const Call& call, int first, int streams, int steps, const Scratch& w) {
  for (int s = 0; s < streams; ++s)
    for (int t = 0; t < call.history; ++t)
      call.recent[t * call.batch + first + s] = w.history[s * w.history_stride + steps + t];
}

// From the last samples of each stream, the first layer's input at x; see `read_past` in cache.py.
void read_past(const Call& call, int step, int first, int streams, const Scratch& w, float* x) {
  const int channels = call.channels, taps = call.taps, inputs = call.inputs;
  for (int s = 0; s < streams; ++s) {
    copy(call.front_bias, channels, x + s * w.x_stride);
    const float* now = w.history + s * w.history_stride + step + call.history;  // where the next sample will be
    if (call.softmax) {
      for (int tap = 0; tap < taps; ++tap) {
        const float* row = call.embedding + (static_cast<int64_t>(tap) * kCodes + encode_mulaw(now[tap - taps])) * channels;
        for (int c = 0; c < channels; ++c) x[s * w.x_stride + c] += row[c];
      }
      continue;
    }
    float *past = w.past + s * w.past_stride, *white = w.white + s * w.white_stride;
    const int period = call.periods ? call.periods[first + s] : 0;
    if (period > 0) copy(now - period - call.taps_ago / 2, call.taps_ago, past);  // else they stay zero
    copy(now - taps, taps, past + call.taps_ago);
    std::memset(white, 0, inputs * sizeof(float));
  }
  if (call.softmax) return;
  add_product(call.whitening, 0, inputs, inputs, 0, inputs, w.past, w.past_stride, w.white, w.white_stride, streams,
              w.pairs);
  add_product(call.front, 0, inputs, channels, 0, channels, w.white, w.white_stride, x, w.x_stride, streams,
              w.pairs);
}

// From the network's outputs of one stream, the parameters of its mixture, in place; see `mixture_outputs` in wavenet.py.
void finish_mixture(const Call& call, const float* white, float* out) {
  const int components = (call.outputs - call.inputs) / 3;
  const float* adaptive_coefficients = out + 3 * components;
  float fixed = 0, adapted = 0;
  for (int i = 0; i < call.inputs; ++i) fixed += call.linear[i] * white[i], adapted += adaptive_coefficients[i] * white[i];
  const float prediction = fixed + exp(splat(call.log_scale))[0] * adapted;
  float* log_scales = out + 2 * components;
  for (int k = 0; k < components; ++k) {
    float& log_scale = log_scales[k];
    log_scale += call.log_scale;
    if (log_scale < call.min_log_scale) log_scale = call.min_log_scale;
    out[components + k] = prediction + exp(splat(log_scale))[0] * out[components + k];
  }
}

// Draws the sample of one stream, or takes the forced one, and scores it if asked. `work` has room for the codes.
float choose(const Call& call, int step, int stream, float* out, const float* white, float* work) {
  const int64_t place = static_cast<int64_t>(step) * call.batch + stream;
  const float* uniform = call.uniforms + 2 * static_cast<int64_t>(step) * call.batch + stream;
  if (!call.softmax) finish_mixture(call, white, out);
  float sample;
  if (call.forced) {
    sample = call.forced[place];
  } else if (!call.softmax) {
    sample = draw_mixture(call, out, uniform[0], uniform[call.batch]);
  } else {
    float highest = -3e38f;
    for (int code = 0; code < kCodes; ++code) {
      work[code] = out[code] / call.temperature;
      highest = work[code] > highest ? work[code] : highest;
    }
    if (call.top_k || call.top_p >= 0) restrict_logits(work, kCodes, call.top_k, call.top_p);
    for (int code = 0; code < kCodes; ++code) work[code] -= highest;
    exp_all(work, kCodes);
    for (int code = 0; code < kCodes; ++code) work[code] = work[code] > 2e-38f ? work[code] : 0;  // excluded codes have no mass
    sample = call.grid[pick_code(work, kCodes, uniform[0])];
  }
  call.samples[place] = sample;
  if (call.log_probs)
    call.log_probs[place] = call.softmax ? score_softmax(out, encode_mulaw(sample)) : score_mixture(call, out, sample);
  return sample;
}

// The ring buffers exceed a processor's own caches: fetches a layer's older taps before they are needed.
void prefetch_ring(const Call& call, int step, int layer, int first, int streams) {
  for (int slot = 0; slot < call.width - 1; ++slot) {
    const float* from = call.ring(layer, step, slot, first);
    for (int64_t i = 0; i < static_cast<int64_t>(streams) * call.channels; i += 16) __builtin_prefetch(from + i);
  }
}

const float* condition(const Call& call, int step, int layer, int stream) {
  return call.conditioning + ((static_cast<int64_t>(call.frame[step]) * call.layers + layer) * call.batch + stream) * 2 * call.channels;
}

// ---- streams apart -------------------------------------------------------------------------------------------------

int64_t scratch_floats(const Call& call, int streams) { return Scratch::floats(call, streams); }

// Streams [first, last), all of one step before the next, so that each weight is read once for all of them.
void run_streams(const Call& call, int first, int last, float* memory) {
  const int streams = last - first, channels = call.channels;
  Scratch w;
  w.lay_out(call, streams, memory);
  read_history(call, first, streams, w);
  float* newest = w.x + (call.width - 1) * channels;
  for (int step = 0; step < call.steps; ++step) {
    read_past(call, step, first, streams, w, newest);
    for (int s = 0; s < streams; ++s) copy(call.skip_bias, call.skip_channels, w.skip + s * w.skip_stride);
    prefetch_ring(call, step, 0, first, streams);
    for (int layer = 0; layer < call.layers; ++layer) {
      if (layer + 1 < call.layers) prefetch_ring(call, step, layer + 1, first, streams);
      for (int s = 0; s < streams; ++s) {
        float *x = w.x + s * w.x_stride, *z = w.z + s * w.z_stride;
        for (int slot = 0; slot < call.width - 1; ++slot)
          copy(call.ring(layer, step, slot, first + s), channels, x + slot * channels);
        copy(x + (call.width - 1) * channels, channels, call.ring(layer, step, 0, first + s));
        copy(call.dilated_bias + layer * 2 * channels, 2 * channels, z);
        if (call.conditioning) {
          const float* frame = condition(call, step, layer, first + s);
          for (int c = 0; c < 2 * channels; ++c) z[c] += frame[c];
        }
      }
      for (int tap = 0; tap < call.width; ++tap)
        add_product(call.dilated, layer * call.width + tap, channels, 2 * channels, 0, 2 * channels, w.x + tap * channels, w.x_stride,
                    w.z, w.z_stride, streams, w.pairs);
      for (int s = 0; s < streams; ++s) {
        gate(w.z + s * w.z_stride, channels, w.gated + s * w.gated_stride);
        for (int c = 0; c < channels; ++c) newest[s * w.x_stride + c] += call.residual_bias[layer * channels + c];
      }
      add_product(call.residual, layer, channels, channels, 0, channels, w.gated, w.gated_stride, newest, w.x_stride,
                  streams, w.pairs);
      add_product(call.skip, layer, channels, call.skip_channels, 0, call.skip_channels, w.gated, w.gated_stride, w.skip,
                  w.skip_stride, streams, w.pairs);
    }
    for (int s = 0; s < streams; ++s) {
      relu(w.skip + s * w.skip_stride, call.skip_channels);
      copy(call.head_bias, call.head_channels, w.head + s * w.head_stride);
      copy(call.out_bias, call.outputs, w.out + s * w.out_stride);
    }
    add_product(call.head, 0, call.skip_channels, call.head_channels, 0, call.head_channels, w.skip,
                w.skip_stride, w.head, w.head_stride, streams, w.pairs);
    for (int s = 0; s < streams; ++s) relu(w.head + s * w.head_stride, call.head_channels);
    add_product(call.out, 0, call.head_channels, call.outputs, 0, call.outputs, w.head, w.head_stride, w.out,
                w.out_stride, streams, w.pairs);
    float work[kCodes];
    for (int s = 0; s < streams; ++s)
      w.history[s * w.history_stride + call.history + step] =
          choose(call, step, first + s, w.out + s * w.out_stride, w.white + s * w.white_stride, work);
  }
  write_history(call, first, streams, call.steps, w);
}

// ---- one stream, several threads -----------------------------------------------------------------------------------
//
// Thread 0 goes through the layers, one after the other. The others do what does not lie on that chain: the layers' older
// taps of the next sample, and the skip path of the layers that are done. All meet three times a sample: after the skip path,
// the head, and the last layer.
//
// A thread spins while it waits, since it usually waits for a microsecond. After some tens of them it sleeps in between: the
// other thread has been interrupted. An interrupt now and then costs little. Where they are many, another process wants the
// processor: then the waiting thread says so, thread 0 leaves after the current sample, and goes on alone.

constexpr int64_t kStop = INT64_MAX;
constexpr int kSpins = 4096;           // some tens of microseconds
constexpr int kSleeps = 6;             // of some 100 microseconds each, that a thread may sleep in any case ...
constexpr int kSamplesPerSleep = 128;  // ... and once more for so many samples, about a twentieth of the time

void publish(Progress* progress, int64_t done) { __atomic_store_n(&progress->done, done, __ATOMIC_RELEASE); }

// How a thread waits for others, and when it has waited too long.
struct Waiting {
  Progress* late;
  int sleeps = 0, step = 0;

  int64_t wait_for(const Progress* progress, int64_t wanted) {
    for (int spins = 0;; ++spins) {
      const int64_t done = __atomic_load_n(&progress->done, __ATOMIC_ACQUIRE);
      if (done >= wanted) return done;
      if (spins < kSpins) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("yield");
#endif
      } else {
        if (++sleeps > kSleeps + step / kSamplesPerSleep) __atomic_store_n(&late->done, 1, __ATOMIC_RELAXED);
        sleep_briefly();
      }
    }
  }
};

// Shared between the threads: each layer's older taps [L][2 C], gates [L][C], skip, head, out.
struct Shared {
  int pre_stride, gated_stride;
  float *pre, *gated, *skip, *head, *out;

  int64_t lay_out(const Call& call, float* memory) {
    pre_stride = padded(2 * call.channels), gated_stride = padded(call.channels);
    int64_t used = 0;
    auto place = [&](int64_t size) {
      float* at = memory ? memory + used : nullptr;
      used += size;
      return at;
    };
    pre = place(static_cast<int64_t>(call.layers) * pre_stride);
    gated = place(static_cast<int64_t>(call.layers) * gated_stride);
    skip = place(padded(call.skip_channels));
    head = place(padded(call.head_channels));
    out = place(padded(call.outputs));
    return used;
  }
};

int64_t shared_floats(const Call& call) { return Shared().lay_out(call, nullptr); }

// The columns that one thread takes, in whole panels: thread 0 the first `first_share` of them, the others share the rest.
struct Columns {
  int first, last;

  Columns(int total, int first_share, int thread, int threads) {
    const auto bound = [&](int t) {
      if (t == 0) return 0;
      if (t == threads) return total;
      const int place = first_share + static_cast<int64_t>(total - first_share) * (t - 1) / (threads - 1);
      return place / kPanel * kPanel;
    };
    first = bound(thread), last = bound(thread + 1);
  }
};

int run_one(const Call& call, int thread, int threads, Progress* progress, float* shared_memory, float* memory) {
  const int channels = call.channels, layers = call.layers;
  Progress *chain = progress, *ahead = progress + threads, *met = progress + 2 * threads, *late = progress + 3 * threads;
  Waiting waiting{late};
  Shared shared;
  shared.lay_out(call, shared_memory);
  Scratch w;
  w.lay_out(call, 1, memory);

  // The work without head and last layer, in multiply-adds; a gate and a drawn code cost some tens of them, as measured.
  // Thread 0 takes skip columns up to its even share.
  const int64_t on_chain = static_cast<int64_t>(layers) * channels * (3 * channels + 40) + 100 * call.outputs;
  const int64_t older = static_cast<int64_t>(layers) * (call.width - 1) * channels * 2 * channels;
  const int64_t a_column = static_cast<int64_t>(layers) * channels;
  int64_t share = ((on_chain + older + a_column * call.skip_channels) / threads - on_chain) / a_column;
  share = share < 0 ? 0 : share > call.skip_channels ? call.skip_channels : share;
  const Columns skip(call.skip_channels, static_cast<int>(share), thread, threads);
  const Columns head(call.head_channels, call.head_channels / threads, thread, threads);
  const Columns out(call.outputs, call.outputs / threads, thread, threads);
  int64_t meetings = 0;
  const auto meet = [&](bool all) {
    publish(met + thread, ++meetings);
    for (int other = 0; all && other < threads; ++other) waiting.wait_for(met + other, meetings);
  };

  // What one layer adds at a step whatever its newest input is: bias, conditioning, older taps.
  const auto prepare = [&](int step, int layer) {
    float* pre = shared.pre + layer * shared.pre_stride;
    copy(call.dilated_bias + layer * 2 * channels, 2 * channels, pre);
    if (call.conditioning) {
      const float* frame = condition(call, step, layer, 0);
      for (int c = 0; c < 2 * channels; ++c) pre[c] += frame[c];
    }
    for (int slot = 0; slot < call.width - 1; ++slot)
      add_product(call.dilated, layer * call.width + slot, channels, 2 * channels, 0, 2 * channels,
                  call.ring(layer, step, slot, 0), 0, pre, 0, 1, w.pairs);
  };
  const auto add_skip = [&](int layer) {
    add_product(call.skip, layer, channels, call.skip_channels, skip.first, skip.last,
                shared.gated + layer * shared.gated_stride, 0, shared.skip, 0, 1, w.pairs);
  };

  if (thread == 0) read_history(call, 0, 1, w);
  int step = 0;
  for (; step < call.steps && !(thread == 0 && __atomic_load_n(&late->done, __ATOMIC_RELAXED)); ++step) {
    const int64_t before = static_cast<int64_t>(step) * layers;
    waiting.step = step;
    copy(call.skip_bias + skip.first, skip.last - skip.first, shared.skip + skip.first);
    if (thread == 0) {
      read_past(call, step, 0, 1, w, w.x);
      for (int layer = 0; layer < layers; ++layer) {
        float* gated = shared.gated + layer * shared.gated_stride;
        waiting.wait_for(ahead + 1 + layer % (threads - 1), before + layer + 1);
        copy(w.x, channels, call.ring(layer, step, 0, 0));
        copy(shared.pre + layer * shared.pre_stride, 2 * channels, w.z);
        add_product(call.dilated, (layer + 1) * call.width - 1, channels, 2 * channels, 0, 2 * channels, w.x, 0, w.z, 0, 1, w.pairs);
        gate(w.z, channels, w.gated);
        copy(w.gated, channels, gated);
        publish(chain, before + layer + 1);
        for (int c = 0; c < channels; ++c) w.x[c] += call.residual_bias[layer * channels + c];
        add_product(call.residual, layer, channels, channels, 0, channels, w.gated, 0, w.x, 0, 1, w.pairs);
      }
      for (int layer = 0; layer < layers; ++layer) add_skip(layer);
    } else {
      for (int layer = thread - 1; layer < layers; layer += threads - 1) prefetch_ring(call, step, layer, 0, 1);
      for (int layer = thread - 1; layer < layers; layer += threads - 1) {
        prepare(step, layer);
        publish(ahead + thread, before + layer + 1);
      }
      for (int layer = 0; layer < layers; ++layer) {
        if (waiting.wait_for(chain, before + layer + 1) == kStop) return step;
        add_skip(layer);
      }
    }
    relu(shared.skip + skip.first, skip.last - skip.first);
    copy(call.head_bias + head.first, head.last - head.first, shared.head + head.first);
    copy(call.out_bias + out.first, out.last - out.first, shared.out + out.first);
    meet(true);
    add_product(call.head, 0, call.skip_channels, call.head_channels, head.first, head.last, shared.skip, 0,
                shared.head, 0, 1, w.pairs);
    relu(shared.head + head.first, head.last - head.first);
    meet(true);
    add_product(call.out, 0, call.head_channels, call.outputs, out.first, out.last, shared.head, 0, shared.out,
                0, 1, w.pairs);
    meet(thread == 0);
    if (thread == 0) {
      float work[kCodes];
      w.history[call.history + step] = choose(call, step, 0, shared.out, w.white, work);
    }
  }
  if (thread == 0) {
    publish(chain, kStop);
    write_history(call, 0, 1, step, w);
  }
  return step;
}

// Reads words [first, last) `repeats` times, in whole registers, and returns their parity.
int read_words(const int32_t* words, int64_t first, int64_t last, int repeats) {
  constexpr int kRegisters = 8;
  Ints parity[kRegisters] = {};
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (int64_t i = first; i + kRegisters * kLanes <= last; i += kRegisters * kLanes)
      for (int r = 0; r < kRegisters; ++r) parity[r] ^= *reinterpret_cast<const Ints*>(words + i + r * kLanes);
    __asm__ __volatile__("" : : : "memory");  // or the compiler would read once
  }
  int all = 0;
  for (int r = 0; r < kRegisters; ++r)
    for (int lane = 0; lane < kLanes; ++lane) all ^= parity[r][lane];
  return all;
}

}  // namespace

#define LOOP_OF_(isa) isa##_loop
#define LOOP_OF(isa) LOOP_OF_(isa)
#define NAME_OF_(isa) #isa
#define NAME_OF(isa) NAME_OF_(isa)
const Loop LOOP_OF(WAVESYNTH_ISA) = {NAME_OF(WAVESYNTH_ISA), scratch_floats, run_streams, shared_floats, run_one, exp_all, gate,
                                     read_words};

}  // namespace wavesynth
