// The op for CPUs: what its parts share. See native.py for the way in and reference.py for the function it computes.
//
//   native.cc       what XLA calls: reads the buffers, chooses an instruction set, starts threads
//   native_loop.cc  the loop over samples, compiled once for every instruction set
//   native_draw.cc  output distributions: drawing and scoring one sample
#pragma once

#include <cstdint>

namespace wavesynth {

// A stack of matrices [rows, columns] in float32 or bfloat16 (the upper half of a float32), each cut into panels of 32
// columns [panels, rows, 32], the last one filled up by zeros: so that weights are read in the order of memory. Two rows of
// bfloat16 lie side by side, [panels, rows / 2, 32, 2]; an odd last row lies beside zeros. Taps have a matrix each.
constexpr int kPanelColumns = 32;
struct Matrix {
  const void* data;
  bool bf16;
};

// One call: T steps of B streams. Shapes as in weights.py and cache.py; C, S, H, P channels; L layers; W taps each.
struct Call {
  int steps, batch, layers, channels, skip_channels, head_channels, outputs, width;
  int taps, taps_ago, history, inputs;  // inputs: taps + taps_ago
  bool softmax;  // over mu-law codes; else a mixture of logistics
  bool mulaw;    // the grid of the samples; else 16-bit steps

  Matrix whitening, front, dilated, residual, skip, head, out;
  const float* embedding;  // [taps, 256, C], a softmax's front
  const float *front_bias, *linear;
  float log_scale, min_log_scale;
  const float *dilated_bias, *residual_bias, *skip_bias, *head_bias, *out_bias;
  const float* grid;   // [256], the samples that mu-law codes stand for
  const float* edges;  // [257], of mu-law's bins

  const float* table;  // [F, L, B, 2 C], or null
  const int* frame;    // [T], rows of the table
  const int* periods;  // [B], samples; 0 where none is known
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

  // What is left of the call after some steps.
  Call after(int done) const {
    Call rest = *this;
    rest.steps -= done;
    rest.phase += done;
    rest.frame += table ? done : 0;
    rest.uniforms += static_cast<int64_t>(done) * 2 * batch;
    rest.samples += static_cast<int64_t>(done) * batch;
    if (forced) rest.forced += static_cast<int64_t>(done) * batch;
    if (log_probs) rest.log_probs += static_cast<int64_t>(done) * batch;
    return rest;
  }

  int ring_length(int layer) const { return (width - 1) * dilations[layer]; }
  // Where the input of `age` steps ago, a multiple of the dilation, lies in `rings`; age 0 is where this step's goes.
  float* ring(int layer, int step, int slot, int stream) const {
    int place = static_cast<int>((static_cast<int64_t>(phase) + step + static_cast<int64_t>(slot) * dilations[layer]) %
                                 ring_length(layer));
    return rings + (static_cast<int64_t>(ring_starts[layer] + place) * batch + stream) * channels;
  }
};

// The likelihoods' part, the same for all instruction sets. `outputs` are a softmax's logits or a mixture's parameters.
float draw_mixture(const Call& call, const float* outputs, float pick, float value);
float score_mixture(const Call& call, const float* outputs, float sample);
float score_softmax(const float* logits, int code);
void restrict_logits(float* logits, int size, int top_k, float top_p);  // see `restrict` in reference.py
int pick_code(const float* weights, int size, float uniform);          // see `pick` in reference.py
int encode_mulaw(float sample);
void yield_thread();

// What several threads that work on one stream tell each other: how far each of them has come. A line of cache each.
struct alignas(64) Progress {
  int64_t done;
};

// The loop of one thread. `scratch` holds scratch_floats() zeros, aligned to 64 bytes.
//   streams  [first, last) by itself.
//   one      of `threads` threads that share a single stream; progress [3 * threads], shared scratch. How many steps were
//            done: thread 0 gives up, and the others with it, where they keep it waiting.
struct Loop {
  const char* name;
  int64_t (*scratch_floats)(const Call&, int streams);
  void (*streams)(const Call&, int first, int last, float* scratch);
  int64_t (*shared_floats)(const Call&);
  int (*one)(const Call&, int thread, int threads, Progress* progress, float* shared, float* scratch);
  // For tests and benchmarks: exp in place, tanh(z[:C]) sigmoid(z[C:]), the parity of words [first, last).
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
