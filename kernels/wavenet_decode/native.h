// The op for CPUs: what its parts share. native.py calls it; reference.py is the function it computes.
//
//   buffers.h       names, axes, types and limits of the buffers, made from buffers.py by the build
//   native.cc       the XLA handler: chooses an instruction set and starts threads
//   native_call.cc  checks the buffers and attributes of one call
//   native_loop.cc  the loop over samples, compiled once per instruction set
//   native_draw.cc  output distributions: draws and scores one sample
#pragma once

#include <cstdint>

#include "buffers.h"

namespace wavesynth {

// A stack of matrices [rows, columns] in float32 or bfloat16 (the upper half of a float32). Each is cut into panels of 32
// columns, [panels, rows, 32], so that weights are read in the order of memory; zeros fill up the last panel. Two rows of
// bfloat16 lie side by side, [panels, rows / 2, 32, 2]; zeros lie beside an odd last row. Each tap has its own matrix.
struct Matrix {
  const void* data;
  bool bf16;
};

// One call. Axes as in buffers.py.
struct Call {
  int steps, batch, layers, channels, skip_channels, head_channels, outputs, width;  // T, B, L, C, S, H, P, W
  int taps, taps_ago, history, inputs;  // K, N - K, A, N
  bool softmax;  // over mu-law codes; else a mixture of logistics
  bool mulaw;    // samples lie on the mu-law grid; else on 16-bit steps

  Matrix whitening, front, dilated, residual, skip, head, out;
  const float* embedding;  // [K, 256, C], a softmax's front
  const float *front_bias, *linear;
  float log_scale, min_log_scale;
  const float *dilated_bias, *residual_bias, *skip_bias, *head_bias, *out_bias;
  const float* grid;   // [256], the samples that mu-law codes stand for
  const float* edges;  // [257], of mu-law's bins

  const float* conditioning;  // [F, L, B, 2 C], or null
  const int* frame;           // [T], rows of the conditioning
  const int* periods;         // [B], samples, 0 where unknown; or null
  const float* uniforms;
  const float* forced;  // [T, B], on the grid, or null
  float temperature, top_p;
  int top_k;

  const int* dilations;
  const int* ring_starts;
  int phase;
  float* rings;
  float* recent;
  float* samples;
  float* log_probs;  // [T, B], or null

  // The rest of the call after `done` steps.
  Call after(int done) const {
    Call rest = *this;
    rest.steps -= done;
    rest.phase += done;
    if (conditioning) rest.frame += done;
    rest.uniforms += static_cast<int64_t>(done) * 2 * batch;
    rest.samples += static_cast<int64_t>(done) * batch;
    if (forced) rest.forced += static_cast<int64_t>(done) * batch;
    if (log_probs) rest.log_probs += static_cast<int64_t>(done) * batch;
    return rest;
  }

  int ring_length(int layer) const { return (width - 1) * dilations[layer]; }
  // Slot `slot` of a layer's ring buffer at a step: 0 is the oldest input, which this step's own input replaces.
  float* ring(int layer, int step, int slot, int stream) const {
    int place = static_cast<int>((static_cast<int64_t>(phase) + step + static_cast<int64_t>(slot) * dilations[layer]) %
                                 ring_length(layer));
    return rings + (static_cast<int64_t>(ring_starts[layer] + place) * batch + stream) * channels;
  }
};

// A buffer as it was passed.
struct Given {
  void* data;
  Type type;
  int rank;
  const int64_t* dimensions;
};

// The attributes of a call.
struct Attributes {
  const int* dilations;
  int64_t layers;
  int width, taps, taps_ago;
  bool softmax, mulaw;
  float min_log_scale, top_p;
  int top_k, threads;
};

// Reads one call from its buffers, in the order of the tables in buffers.h. Returns null, or what does not fit, as text that
// lives until the thread's next call. Checks everything that the loops trust. ring_starts: room for [L].
const char* read_call(const Given* inputs, const Given* outputs, const Attributes& attributes, int* ring_starts, Call& call);

// Output distributions, compiled once for all instruction sets. `outputs` are a softmax's logits or a mixture's parameters.
float draw_mixture(const Call& call, const float* outputs, float pick, float value);
float score_mixture(const Call& call, const float* outputs, float sample);
float score_softmax(const float* logits, int code);
void restrict_logits(float* logits, int size, int top_k, float top_p);  // see `restrict` in strategy.py
int pick_code(const float* weights, int size, float uniform);          // see `pick` in strategy.py
int encode_mulaw(float sample);
void sleep_briefly();

// What threads that share one stream know of each other. Each counter has its own cache line.
struct alignas(64) Progress {
  int64_t done;
};

// The loop of one thread. `scratch` holds scratch_floats() zeros, aligned to 64 bytes.
//   streams  runs streams [first, last).
//   one      is thread `thread` of `threads` that share a single stream: progress [3 * threads + 1], shared scratch. Thread 0
//            returns how many steps were done; it stops early where the threads kept each other waiting.
struct Loop {
  const char* name;
  int64_t (*scratch_floats)(const Call&, int streams);
  void (*streams)(const Call&, int first, int last, float* scratch);
  int64_t (*shared_floats)(const Call&);
  int (*one)(const Call&, int thread, int threads, Progress* progress, float* shared, float* scratch);
  // For tests and benchmarks: exp in place; tanh(z[:C]) sigmoid(z[C:]); the parity of words [first, last).
  void (*exp)(float* values, int size);
  void (*gate)(const float* z, int channels, float* gated);
  int (*read)(const int32_t* words, int64_t first, int64_t last, int repeats);
};

extern const Loop generic_loop;
#ifdef WAVESYNTH_X86
extern const Loop avx2_loop, avx512_loop;
#endif
#ifdef WAVESYNTH_BF16
extern const Loop avx512bf16_loop;
#endif

}  // namespace wavesynth
