// The native sampler's loops over many random shapes, for a sanitizer to watch: built and run by .ci/run. Every buffer is an
// allocation of its own and of its exact size, so that any access beside it is seen. Half of the calls are damaged first (a
// size, a type, an attribute or a value is changed): `read_call` has to refuse them, or the loop has to run within its buffers.
// Exits with 1 where an undamaged call is refused, a sample is not finite, or several threads give other samples than one.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "native.h"

namespace wavesynth {
void sleep_briefly() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }
}  // namespace wavesynth

namespace {

using namespace wavesynth;

std::mt19937 generator(0);

int between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

// One call with random sizes and values, as XLA would pass it.
struct Random {
  std::vector<std::unique_ptr<char[]>> owned;
  std::vector<std::vector<int64_t>> shapes;
  Given in[kInputs], out[kOutputs];
  int64_t sizes[kAxes] = {};
  std::vector<int> dilations, starts;
  Attributes attributes{};

  template <class T>
  T* exactly(int64_t count) {
    owned.emplace_back(new char[count * sizeof(T)]());
    return reinterpret_cast<T*>(owned.back().get());
  }

  float* floats(int64_t count, float scale) {
    float* values = exactly<float>(count);
    for (int64_t i = 0; i < count; ++i) values[i] = scale * std::normal_distribution<float>()(generator);
    return values;
  }

  static int64_t count(const std::vector<int64_t>& shape) {
    int64_t product = 1;
    for (int64_t size : shape) product *= size;
    return product;
  }

  Given make(const Buffer& buffer, bool bf16, bool empty) {
    std::vector<int64_t> shape;
    for (int i = 0; i < buffer.rank; ++i) shape.push_back(buffer.axes[i] < 0 ? -buffer.axes[i] : sizes[buffer.axes[i]]);
    bf16 = bf16 && buffer.type == kMatrix;
    if (buffer.panels) {
      const int64_t rows = shape[shape.size() - 2], columns = shape[shape.size() - 1];
      shape[shape.size() - 2] = (columns + 31) / 32;
      shape[shape.size() - 1] = bf16 ? (rows + 1) / 2 : rows;
      shape.push_back(32);
      if (bf16) shape.push_back(2);
    }
    if (empty) shape = {0};
    void* data;
    if (buffer.type == kInt) {
      data = exactly<int>(count(shape));
    } else {
      float* values = floats(count(shape), 0.1f);
      data = values;
      if (bf16) {
        auto* halves = exactly<uint16_t>(count(shape));
        for (int64_t i = 0; i < count(shape); ++i) halves[i] = reinterpret_cast<uint16_t*>(values)[2 * i + 1];
        data = halves;
      }
    }
    shapes.push_back(shape);
    const Type type = buffer.type == kMatrix ? (bf16 ? kBfloat16 : kFloat) : buffer.type;
    return {data, type, static_cast<int>(shape.size()), nullptr};
  }

  explicit Random(int batch) {
    Attributes& a = attributes;
    sizes[kT] = between(1, 40), sizes[kB] = batch, sizes[kL] = between(1, 5), sizes[kW] = between(2, 4);
    sizes[kC] = between(1, 70), sizes[kG] = 2 * sizes[kC], sizes[kS] = between(1, 130), sizes[kH] = between(1, 130);
    sizes[kF] = between(1, 4);
    a.softmax = between(0, 1), a.mulaw = a.softmax || between(0, 1);
    const int longest = between(0, 1) && !a.softmax ? between(8, 60) : 0;
    a.taps = between(1, 20), a.taps_ago = longest ? between(1, 8) : 0;
    sizes[kK] = a.taps, sizes[kN] = a.taps + a.taps_ago;
    sizes[kA] = longest ? std::max(a.taps, longest + a.taps_ago) : a.taps;
    const int components = between(0, 9) ? between(1, 6) : kMostComponents;
    sizes[kP] = a.softmax ? 256 : 3 * components + sizes[kN];
    for (int layer = 0; layer < sizes[kL]; ++layer) {
      dilations.push_back(between(1, 17));
      sizes[kR] += (sizes[kW] - 1) * dilations[layer];
    }
    starts.resize(sizes[kL]);
    a.dilations = dilations.data(), a.layers = sizes[kL], a.width = static_cast<int>(sizes[kW]);
    a.min_log_scale = -5, a.top_p = between(0, 1) ? 0.9f : -1, a.top_k = between(0, 1) ? between(1, 300) : 0, a.threads = 1;
    const bool bf16 = between(0, 1), conditioned = between(0, 1), forced = between(0, 3) == 0, scored = between(0, 1);
    shapes.reserve(kInputs + kOutputs);
    for (int i = 0; i < kInputs; ++i) {
      const bool empty = i == (a.softmax ? in_front : in_embedding) || (i == in_periods && !longest) || (i == in_forced && !forced) ||
                         ((i == in_conditioning || i == in_frame_index) && !conditioned);
      in[i] = make(kInputTable[i], bf16, empty);
    }
    for (int i = 0; i < kOutputs; ++i) out[i] = make(kOutputTable[i], false, i == out_log_probs && !scored);
    for (int i = 0; i < kInputs; ++i) in[i].dimensions = shapes[i].data();
    for (int i = 0; i < kOutputs; ++i) out[i].dimensions = shapes[kInputs + i].data();
    float *grid = values(in_grid), *edges = values(in_edges), *uniforms = values(in_uniforms);
    for (int code = 0; code < 256; ++code) grid[code] = (2 * code - 255) / 255.0f, edges[code] = (2 * code - 256) / 255.0f;
    edges[256] = 256 / 255.0f;
    for (int64_t i = 0; i < count(shapes[in_uniforms]); ++i) uniforms[i] = std::uniform_real_distribution<float>(0, 0.99999f)(generator);
    *values(in_temperature) = 0.9f, *values(in_log_scale) = -5;
    *numbers(in_phase) = between(0, 100);
    if (conditioned)
      for (int t = 0; t < sizes[kT]; ++t) numbers(in_frame_index)[t] = between(0, static_cast<int>(sizes[kF]) - 1);
    if (longest)
      for (int s = 0; s < batch; ++s) numbers(in_periods)[s] = between(0, 3) ? between((a.taps_ago + 1) / 2, longest) : 0;
  }

  float* values(int input) { return static_cast<float*>(in[input].data); }
  int* numbers(int input) { return static_cast<int*>(in[input].data); }

  // Changes one thing, mostly for the worse.
  void damage() {
    static const int odd[] = {0, -1, 1, 2, 3, 65, 1000, 1 << 20, INT32_MAX, INT32_MIN};
    const int any = odd[between(0, 9)];
    Attributes& a = attributes;
    switch (between(0, 15)) {
      case 0: a.top_k = any; break;
      case 1: a.top_p = any; break;
      case 2: a.width = any; break;
      case 3: a.taps = any; break;
      case 4: a.taps_ago = any; break;
      case 5: a.softmax = !a.softmax; break;
      case 6: a.mulaw = !a.mulaw; break;
      case 7: dilations[between(0, static_cast<int>(a.layers) - 1)] = any; break;
      case 8: a.layers = between(0, static_cast<int>(a.layers)); break;
      case 9: *numbers(in_phase) = any; break;
      case 10: *values(in_temperature) = between(0, 1) ? static_cast<float>(any) : NAN; break;
      case 11:
        if (in[in_frame_index].dimensions[0]) numbers(in_frame_index)[0] = any;
        break;
      case 12:
        if (in[in_periods].dimensions[0]) numbers(in_periods)[0] = any;
        break;
      case 13: {  // values that are not finite
        const int input = between(0, in_grid - 1);
        if (in[input].type == kFloat && count(shapes[input])) values(input)[between(0, static_cast<int>(count(shapes[input])) - 1)] = NAN;
        break;
      }
      case 14: (between(0, 1) ? in[between(0, kInputs - 1)] : out[between(0, kOutputs - 1)]).type = static_cast<Type>(between(0, 3)); break;
      default: {  // another size of one buffer, really allocated
        const int buffer = between(0, kInputs + kOutputs - 1);
        auto& shape = shapes[buffer];
        if (shape.empty()) break;
        shape[between(0, static_cast<int>(shape.size()) - 1)] += between(0, 1) ? 1 : -1;
        for (int64_t size : shape)
          if (size < 0) shape.assign(1, 0);
        Given& given = buffer < kInputs ? in[buffer] : out[buffer - kInputs];
        given.rank = static_cast<int>(shape.size());
        given.data = exactly<int>(count(shape)), given.dimensions = shape.data();
      }
    }
  }
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
  std::unique_ptr<Progress[]> progress(new Progress[3 * threads + 1]());
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

int refused = 0, damaged = 0;

bool run(const Loop& loop, int shape) {
  const int batch = shape % 3 ? between(1, 9) : 1;
  Random random(batch);
  const bool whole = shape % 2;
  if (!whole) random.damage(), ++damaged;
  Call call{};
  if (const char* wrong = read_call(random.in, random.out, random.attributes, random.starts.data(), call)) {
    refused += !whole;
    return whole ? std::printf("shape %d: %s\n", shape, wrong), false : true;
  }
  const int64_t slots = static_cast<int64_t>(random.sizes[kR]) * call.batch * call.channels;
  std::memcpy(call.rings, random.values(in_rings), slots * sizeof(float));
  const std::vector<float> rings(call.rings, call.rings + slots);
  const std::vector<float> recent(call.recent, call.recent + static_cast<int64_t>(call.history) * call.batch);
  alone(loop, call);
  const std::vector<float> samples(call.samples, call.samples + static_cast<int64_t>(call.steps) * call.batch);
  if (!whole) return true;
  for (float sample : samples)
    if (!std::isfinite(sample)) return std::printf("shape %d: a sample is not finite\n", shape), false;
  if (call.batch > 1) return true;
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
  std::vector<const Loop*> loops = {&generic_loop};
#ifdef WAVESYNTH_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) loops.push_back(&avx2_loop);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    loops.push_back(&avx512_loop);
#ifdef WAVESYNTH_BF16
    if (__builtin_cpu_supports("avx512bf16")) loops.push_back(&avx512bf16_loop);
#endif
  }
#endif
  for (const Loop* loop : loops) {
    for (int shape = 0; shape < 400; ++shape)
      if (!run(*loop, shape)) return 1;
    std::printf("%s: 400 calls; of %d damaged ones so far, %d were refused\n", loop->name, damaged, refused);
  }
}
