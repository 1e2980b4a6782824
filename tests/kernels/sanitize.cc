// The native sampler's loops over many random shapes, for a sanitizer to watch: built and run by .ci/run. Every buffer is an
// allocation of its own and of its exact size, so that a read or write beside it is seen. Exits with 1 on a sample that is
// not finite, or where several threads give other samples than one.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "native.h"

namespace wavesynth {
void yield_thread() { std::this_thread::yield(); }
}  // namespace wavesynth

namespace {

using wavesynth::Call;
using wavesynth::Loop;
using wavesynth::Matrix;

std::mt19937 generator(0);

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

template <class T>
T* exactly(std::vector<std::unique_ptr<char[]>>& owned, int64_t count) {
  owned.emplace_back(new char[count * sizeof(T)]());
  return reinterpret_cast<T*>(owned.back().get());
}

struct Random {
  std::vector<std::unique_ptr<char[]>> owned;
  Call call{};

  float* floats(int64_t count, float scale) {
    float* values = exactly<float>(owned, count);
    for (int64_t i = 0; i < count; ++i) values[i] = scale * std::normal_distribution<float>()(generator);
    return values;
  }

  Matrix matrix(int stack, int rows, int columns, bool bf16) {
    if (bf16) rows += rows % 2;
    const int64_t count = static_cast<int64_t>(stack) * rows * ((columns + 31) / 32 * 32);
    float* values = floats(count, 0.1f);
    if (!bf16) return {values, false};
    auto* halves = exactly<uint16_t>(owned, count);
    for (int64_t i = 0; i < count; ++i) halves[i] = reinterpret_cast<uint16_t*>(values)[2 * i + 1];
    return {halves, true};
  }

  explicit Random(int batch) {
    call.steps = between(1, 40);
    call.batch = batch;
    call.layers = between(1, 5);
    call.channels = between(1, 70);
    call.skip_channels = between(1, 130);
    call.head_channels = between(1, 130);
    call.width = between(2, 3);
    call.taps = between(1, 20);
    call.softmax = between(0, 1);
    call.mulaw = call.softmax || between(0, 1);
    const int longest = between(0, 1) && !call.softmax ? between(8, 60) : 0;
    call.taps_ago = longest ? between(1, 8) : 0;
    call.history = longest ? std::max(call.taps, longest + call.taps_ago) : call.taps;
    call.inputs = call.taps + call.taps_ago;
    call.outputs = call.softmax ? 256 : 3 * between(1, 6) + call.inputs;
    const bool bf16 = between(0, 1);
    const int C = call.channels;
    call.whitening = matrix(1, call.inputs, call.inputs, false);
    call.front = matrix(1, call.inputs, C, false);
    call.embedding = floats(static_cast<int64_t>(call.taps) * 256 * C, 0.1f);
    call.dilated = matrix(call.layers * call.width, C, 2 * C, bf16);
    call.residual = matrix(call.layers, C, C, bf16);
    call.skip = matrix(call.layers, C, call.skip_channels, bf16);
    call.head = matrix(1, call.skip_channels, call.head_channels, bf16);
    call.out = matrix(1, call.head_channels, call.outputs, bf16);
    call.front_bias = floats(C, 0.1f);
    call.linear = floats(call.inputs, 0.1f);
    call.log_scale = call.min_log_scale = -5;
    call.dilated_bias = floats(call.layers * 2 * C, 0.1f);
    call.residual_bias = floats(call.layers * C, 0.1f);
    call.skip_bias = floats(call.skip_channels, 0.1f);
    call.head_bias = floats(call.head_channels, 0.1f);
    call.out_bias = floats(call.outputs, 0.1f);
    float* grid = floats(256, 0);
    float* edges = floats(257, 0);
    for (int code = 0; code < 256; ++code) grid[code] = (2 * code - 255) / 255.0f, edges[code] = (2 * code - 256) / 255.0f;
    edges[256] = 256 / 255.0f;
    call.grid = grid, call.edges = edges;
    if (between(0, 1)) {
      const int frames = between(1, 4);
      call.table = floats(static_cast<int64_t>(frames) * call.layers * batch * 2 * C, 0.1f);
      int* frame = exactly<int>(owned, call.steps);
      for (int t = 0; t < call.steps; ++t) frame[t] = between(0, frames - 1);
      call.frame = frame;
    }
    int* periods = exactly<int>(owned, batch);
    for (int s = 0; s < batch; ++s) periods[s] = longest && between(0, 3) ? between(call.taps_ago / 2 + 1, longest) : 0;
    call.periods = periods;
    float* uniforms = floats(static_cast<int64_t>(call.steps) * 2 * batch, 0);
    for (int64_t i = 0; i < static_cast<int64_t>(call.steps) * 2 * batch; ++i)
      uniforms[i] = std::uniform_real_distribution<float>(0, 0.99999f)(generator);
    call.uniforms = uniforms;
    if (between(0, 3) == 0) call.forced = floats(static_cast<int64_t>(call.steps) * batch, 0);
    call.temperature = 0.9f;
    call.top_p = between(0, 1) ? 0.9f : -1;
    call.top_k = between(0, 1) ? between(1, 300) : 0;
    int* dilations = exactly<int>(owned, call.layers);
    int* starts = exactly<int>(owned, call.layers);
    int total = 0;
    for (int layer = 0; layer < call.layers; ++layer) {
      dilations[layer] = 1 << between(0, 4);
      starts[layer] = total;
      total += (call.width - 1) * dilations[layer];
    }
    call.dilations = dilations, call.ring_starts = starts;
    call.phase = between(0, 100);
    call.rings = floats(static_cast<int64_t>(total) * batch * C, 0.1f);
    call.recent = floats(static_cast<int64_t>(call.history) * batch, 0.01f);
    call.samples = floats(static_cast<int64_t>(call.steps) * batch, 0);
    if (between(0, 1)) call.log_probs = floats(static_cast<int64_t>(call.steps) * batch, 0);
    rings = static_cast<int64_t>(total) * batch * C;
  }

  int64_t rings;
};

struct Aligned {
  explicit Aligned(int64_t floats) : data(static_cast<float*>(std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64))) {
    std::fill(data, data + floats, 0.0f);
  }
  ~Aligned() { std::free(data); }
  float* data;
};

void alone(const Loop& loop, const Call& call) {
  Aligned scratch(loop.scratch_floats(call, call.batch));
  loop.streams(call, 0, call.batch, scratch.data);
}

int together(const Loop& loop, const Call& call, int threads) {
  Aligned shared(loop.shared_floats(call));
  std::unique_ptr<wavesynth::Progress[]> progress(new wavesynth::Progress[3 * threads]());
  int done = 0;
  auto part = [&](int thread) {
    Aligned scratch(loop.scratch_floats(call, 1));
    const int steps = loop.one(call, thread, threads, progress.get(), shared.data, scratch.data);
    if (thread == 0) done = steps;
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(part, thread);
  part(0);
  for (auto& other : others) other.join();
  return done;
}

bool run(const Loop& loop, int shape) {
  const int batch = shape % 3 ? between(1, 9) : 1;
  Random random(batch);
  Call& call = random.call;
  const std::vector<float> rings(call.rings, call.rings + random.rings);
  const std::vector<float> recent(call.recent, call.recent + static_cast<int64_t>(call.history) * batch);
  alone(loop, call);
  const std::vector<float> samples(call.samples, call.samples + static_cast<int64_t>(call.steps) * batch);
  for (float sample : samples)
    if (!std::isfinite(sample)) return std::printf("shape %d: a sample is not finite\n", shape), false;
  if (batch > 1) return true;
  std::copy(rings.begin(), rings.end(), call.rings);
  std::copy(recent.begin(), recent.end(), call.recent);
  const int done = together(loop, call, between(2, 4));
  if (done < call.steps) alone(loop, call.after(done));
  for (int t = 0; t < call.steps; ++t)
    if (samples[t] != call.samples[t]) return std::printf("shape %d: threads disagree at step %d of %d\n", shape, t, call.steps), false;
  return true;
}

}  // namespace

int main() {
  std::vector<const Loop*> loops = {&wavesynth::generic_loop};
#ifdef WAVESYNTH_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) loops.push_back(&wavesynth::avx2_loop);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    loops.push_back(&wavesynth::avx512_loop);
#ifdef WAVESYNTH_BF16
    if (__builtin_cpu_supports("avx512bf16")) loops.push_back(&wavesynth::avx512bf16_loop);
#endif
  }
#endif
  for (const Loop* loop : loops) {
    for (int shape = 0; shape < 150; ++shape)
      if (!run(*loop, shape)) return 1;
    std::printf("%s: 150 shapes\n", loop->name);
  }
}
