// What XLA calls: the op as an FFI handler, which reads the buffers, chooses an instruction set and starts the threads.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "native.h"
#include "xla/ffi/api/ffi.h"

namespace wavesynth {

void yield_thread() { std::this_thread::yield(); }

namespace {

namespace ffi = xla::ffi;

std::vector<const Loop*> supported() {
  std::vector<const Loop*> loops;
#ifdef WAVESYNTH_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
#ifdef WAVESYNTH_BF16
    if (__builtin_cpu_supports("avx512bf16")) loops.push_back(&avx512bf16_loop);
#endif
    loops.push_back(&avx512_loop);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) loops.push_back(&avx2_loop);
#endif
  loops.push_back(&generic_loop);
  return loops;
}

// The best loop for this machine, or the one that the environment names in WAVESYNTH_INSTRUCTION_SET.
const Loop* chosen() {
  static const std::vector<const Loop*> loops = supported();
  if (const char* name = std::getenv("WAVESYNTH_INSTRUCTION_SET"); name && *name) {
    for (const Loop* loop : loops)
      if (!std::strcmp(loop->name, name)) return loop;
    return nullptr;
  }
  return loops.front();
}

// Zeros on lines of cache, so that threads which own different lines never share one.
class Zeros {
 public:
  explicit Zeros(int64_t floats) : memory_(floats + 16), start_(memory_.data()) {
    const auto over = reinterpret_cast<uintptr_t>(start_) % 64;
    if (over) start_ += (64 - over) / sizeof(float);
  }
  float* get() { return start_; }

 private:
  std::vector<float> memory_;
  float* start_;
};

// part(thread) for each of some threads, the first of which is this one.
template <class Part>
void in_threads(int threads, Part part) {
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(part, thread);
  part(0);
  for (auto& other : others) other.join();
}

void run_apart(const Loop& loop, const Call& call, int threads) {
  in_threads(threads, [&](int thread) {
    const int first = static_cast<int>(static_cast<int64_t>(call.batch) * thread / threads);
    const int last = static_cast<int>(static_cast<int64_t>(call.batch) * (thread + 1) / threads);
    Zeros scratch(loop.scratch_floats(call, last - first));
    loop.streams(call, first, last, scratch.get());
  });
}

void run_together(const Loop& loop, const Call& call, int threads) {
  Zeros shared(loop.shared_floats(call));
  std::unique_ptr<Progress[]> progress(new Progress[3 * threads]());
  int done = 0;
  in_threads(threads, [&](int thread) {
    Zeros scratch(loop.scratch_floats(call, 1));
    const int steps = loop.one(call, thread, threads, progress.get(), shared.get(), scratch.get());
    if (thread == 0) done = steps;
  });
  if (done < call.steps) run_apart(loop, call.after(done), 1);
}

using Floats = ffi::Buffer<ffi::F32>;
using Numbers = ffi::Buffer<ffi::S32>;

Matrix matrix(const ffi::AnyBuffer& buffer) { return {buffer.untyped_data(), buffer.element_type() == ffi::BF16}; }

ffi::Error decode(ffi::AnyBuffer whitening, ffi::AnyBuffer front, Floats front_bias, Floats linear, Floats log_scale, ffi::AnyBuffer dilated,
                  Floats dilated_bias, ffi::AnyBuffer residual, Floats residual_bias, ffi::AnyBuffer skip, Floats skip_bias,
                  ffi::AnyBuffer head, Floats head_bias, ffi::AnyBuffer out, Floats out_bias, Floats grid, Floats edges,
                  Floats table, Numbers frame, Numbers periods, Floats uniforms, Floats forced, Floats temperature, Floats recent, Floats rings,
                  Numbers phase, ffi::Result<Floats> samples, ffi::Result<Floats> log_probs, ffi::Result<Floats> recent_after,
                  ffi::Result<Floats> rings_after, ffi::Span<const int32_t> dilations, ffi::Span<const int32_t> ring_starts,
                  int32_t kernel_width, int32_t taps, int32_t taps_ago, bool softmax, bool mulaw, float min_log_scale, int32_t top_k,
                  float top_p, int32_t threads) {
  const Loop* loop = chosen();
  if (!loop) return ffi::Error::InvalidArgument("WAVESYNTH_INSTRUCTION_SET names none that this machine has");
  Call call{};
  call.steps = static_cast<int>(uniforms.dimensions()[0]);
  call.batch = static_cast<int>(uniforms.dimensions()[2]);
  call.layers = static_cast<int>(dilations.size());
  call.width = kernel_width;
  call.channels = static_cast<int>(front_bias.element_count());
  call.skip_channels = static_cast<int>(skip_bias.element_count());
  call.head_channels = static_cast<int>(head_bias.element_count());
  call.outputs = static_cast<int>(out_bias.element_count());
  call.taps = taps;
  call.taps_ago = taps_ago;
  call.history = static_cast<int>(recent.dimensions()[0]);
  call.inputs = taps + taps_ago;
  call.softmax = softmax;
  call.mulaw = mulaw;
  call.whitening = matrix(whitening);
  call.front = matrix(front);
  call.embedding = static_cast<const float*>(front.untyped_data());
  call.front_bias = front_bias.typed_data();
  call.linear = linear.typed_data();
  call.log_scale = *log_scale.typed_data();
  call.min_log_scale = min_log_scale;
  call.dilated = matrix(dilated);
  call.residual = matrix(residual);
  call.skip = matrix(skip);
  call.head = matrix(head);
  call.out = matrix(out);
  call.dilated_bias = dilated_bias.typed_data();
  call.residual_bias = residual_bias.typed_data();
  call.skip_bias = skip_bias.typed_data();
  call.head_bias = head_bias.typed_data();
  call.out_bias = out_bias.typed_data();
  call.grid = grid.typed_data();
  call.edges = edges.typed_data();
  call.table = table.element_count() ? table.typed_data() : nullptr;
  call.frame = frame.typed_data();
  call.periods = periods.typed_data();
  call.uniforms = uniforms.typed_data();
  call.forced = forced.element_count() ? forced.typed_data() : nullptr;
  call.temperature = *temperature.typed_data();
  call.top_k = top_k;
  call.top_p = top_p;
  call.dilations = dilations.begin();
  call.ring_starts = ring_starts.begin();
  call.phase = *phase.typed_data();
  call.samples = samples->typed_data();
  call.log_probs = log_probs->element_count() ? log_probs->typed_data() : nullptr;
  call.recent = recent_after->typed_data();
  call.rings = rings_after->typed_data();
  // XLA gives the state's outputs the memory of its inputs, or copies of it where it must.
  if (call.recent != recent.typed_data()) std::memcpy(call.recent, recent.typed_data(), recent.size_bytes());
  if (call.rings != rings.typed_data()) std::memcpy(call.rings, rings.typed_data(), rings.size_bytes());
  if (!call.steps) return ffi::Error::Success();
  if (call.batch == 1 && threads > 1) {
    run_together(*loop, call, threads);
  } else {
    run_apart(*loop, call, threads < call.batch ? threads : call.batch);
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace wavesynth

#pragma GCC visibility push(default)  // what ctypes looks up

using wavesynth::Floats;
using wavesynth::Numbers;

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    wavesynth_wavenet_decode, wavesynth::decode,
    xla::ffi::Ffi::Bind()
        .Arg<xla::ffi::AnyBuffer>() // whitening
        .Arg<xla::ffi::AnyBuffer>() // front
        .Arg<Floats>()              // front_bias
        .Arg<Floats>()              // linear
        .Arg<Floats>()              // log_scale
        .Arg<xla::ffi::AnyBuffer>() // dilated
        .Arg<Floats>()              // dilated_bias
        .Arg<xla::ffi::AnyBuffer>() // residual
        .Arg<Floats>()              // residual_bias
        .Arg<xla::ffi::AnyBuffer>() // skip
        .Arg<Floats>()              // skip_bias
        .Arg<xla::ffi::AnyBuffer>() // head
        .Arg<Floats>()              // head_bias
        .Arg<xla::ffi::AnyBuffer>() // out
        .Arg<Floats>()              // out_bias
        .Arg<Floats>()              // grid
        .Arg<Floats>()              // edges
        .Arg<Floats>()              // table
        .Arg<Numbers>()             // frame
        .Arg<Numbers>()             // periods
        .Arg<Floats>()              // uniforms
        .Arg<Floats>()              // forced
        .Arg<Floats>()              // temperature
        .Arg<Floats>()              // recent
        .Arg<Floats>()              // rings
        .Arg<Numbers>()             // phase
        .Ret<Floats>()              // samples
        .Ret<Floats>()              // log_probs
        .Ret<Floats>()              // recent
        .Ret<Floats>()              // rings
        .Attr<xla::ffi::Span<const int32_t>>("dilations")
        .Attr<xla::ffi::Span<const int32_t>>("ring_starts")
        .Attr<int32_t>("kernel_width")
        .Attr<int32_t>("taps")
        .Attr<int32_t>("taps_ago")
        .Attr<bool>("softmax")
        .Attr<bool>("mulaw")
        .Attr<float>("min_log_scale")
        .Attr<int32_t>("top_k")
        .Attr<float>("top_p")
        .Attr<int32_t>("threads"));

extern "C" {

// Names of the instruction sets that this machine can run, the best first, with spaces between.
const char* wavesynth_instruction_sets() {
  static const std::string names = [] {
    std::string all;
    for (const auto* loop : wavesynth::supported()) all += (all.empty() ? "" : " ") + std::string(loop->name);
    return all;
  }();
  return names.c_str();
}

void wavesynth_exp(float* values, int size) { wavesynth::chosen()->exp(values, size); }

void wavesynth_gate(const float* z, int channels, float* gated) { wavesynth::chosen()->gate(z, channels, gated); }

// Reads `bytes` of memory `repeats` times, each of `threads` its own part: what streaming weights costs at the least.
int wavesynth_read(const int32_t* memory, int64_t bytes, int repeats, int threads) {
  const wavesynth::Loop* loop = wavesynth::chosen();
  std::vector<int> parities(threads);
  wavesynth::in_threads(threads, [&](int thread) {
    const int64_t words = bytes / 4;
    parities[thread] = loop->read(memory, words * thread / threads, words * (thread + 1) / threads, repeats);
  });
  int parity = 0;
  for (int each : parities) parity ^= each;
  return parity;
}
}

#pragma GCC visibility pop
