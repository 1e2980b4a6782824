// The XLA handler of the op: checks the buffers, chooses an instruction set, starts the threads.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "native.h"
#include "xla/ffi/api/ffi.h"

namespace wavesynth {

void sleep_briefly() { std::this_thread::sleep_for(std::chrono::microseconds(50)); }

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

// The best loop for this machine, or the one named by WAVESYNTH_INSTRUCTION_SET.
const Loop* chosen() {
  static const std::vector<const Loop*> loops = supported();
  if (const char* name = std::getenv("WAVESYNTH_INSTRUCTION_SET"); name && *name) {
    for (const Loop* loop : loops)
      if (!std::strcmp(loop->name, name)) return loop;
    return nullptr;
  }
  return loops.front();
}

// Zeros that begin on a cache line, so that two threads never share one.
class Zeros {
 public:
  explicit Zeros(int64_t floats) : memory_(floats + 16) {
    const auto over = reinterpret_cast<uintptr_t>(memory_.data()) % 64;
    offset_ = over ? (64 - over) / sizeof(float) : 0;
  }
  float* get() { return memory_.data() + offset_; }

 private:
  std::vector<float> memory_;  // moving it does not move its data
  size_t offset_;
};

// Calls part(0) ... part(threads - 1), all at once, the first in this thread. False, with nothing called, where the system
// does not grant so many threads.
template <class Part>
bool in_threads(int threads, Part part) {
  enum { kWait, kGo, kCancel };
  std::atomic<int> state{kWait};
  std::vector<std::thread> others;
  const auto wait = [&](int thread) {
    while (state.load(std::memory_order_acquire) == kWait) std::this_thread::yield();
    if (state.load(std::memory_order_relaxed) == kGo) part(thread);
  };
  bool granted = true;
  others.reserve(threads - 1);
  try {
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(wait, thread);
  } catch (const std::system_error&) {
    granted = false;
  }
  state.store(granted ? kGo : kCancel, std::memory_order_release);
  if (granted) part(0);
  for (auto& other : others) other.join();
  return granted;
}

// Each thread runs its own streams.
void run_apart(const Loop& loop, const Call& call, int threads) {
  const auto first = [&](int thread) { return static_cast<int>(static_cast<int64_t>(call.batch) * thread / threads); };
  std::vector<Zeros> scratch;
  for (int thread = 0; thread < threads; ++thread) scratch.emplace_back(loop.scratch_floats(call, first(thread + 1) - first(thread)));
  const auto part = [&](int thread) { loop.streams(call, first(thread), first(thread + 1), scratch[thread].get()); };
  if (!in_threads(threads, part))
    for (int thread = 0; thread < threads; ++thread) part(thread);
}

// Whether threads may share a stream now. They meet a million times a second, so where another process wants a processor, one
// thread alone is faster. After a long wait, streams are left to one thread for a while: each time for twice as long as before.
class Sharing {
 public:
  bool allowed() const { return now() >= again_.load(std::memory_order_relaxed); }
  void worked() { pause_.store(kShortest, std::memory_order_relaxed); }
  void failed() {
    const int64_t pause = pause_.load(std::memory_order_relaxed);
    again_.store(now() + pause, std::memory_order_relaxed);
    pause_.store(pause < kLongest ? 2 * pause : pause, std::memory_order_relaxed);
  }

 private:
  static constexpr int64_t kShortest = 20'000'000, kLongest = 1'000'000'000;  // nanoseconds
  static int64_t now() { return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1); }
  std::atomic<int64_t> again_{0}, pause_{kShortest};
};

Sharing sharing;

// Several threads run one stream together. Where they give up, the first finishes it alone.
void run_together(const Loop& loop, const Call& call, int threads) {
  Zeros shared(loop.shared_floats(call)), alone(loop.scratch_floats(call, 1));
  std::unique_ptr<Progress[]> progress(new Progress[3 * threads + 1]());
  std::vector<Zeros> scratch;
  for (int thread = 0; thread < threads; ++thread) scratch.emplace_back(loop.scratch_floats(call, 1));
  const auto part = [&](int thread) {
    const int done = loop.one(call, thread, threads, progress.get(), shared.get(), scratch[thread].get());
    if (thread > 0) return;
    if (done == call.steps) return sharing.worked();
    sharing.failed();
    loop.streams(call.after(done), 0, 1, alone.get());  // without waiting for the others, which may have no processor
  };
  if (!in_threads(threads, part)) loop.streams(call, 0, 1, alone.get());
}

Type type_of(ffi::DataType type) {
  switch (type) {
    case ffi::F32: return kFloat;
    case ffi::S32: return kInt;
    case ffi::BF16: return kBfloat16;
    default: return kMatrix;  // the type of no buffer, so it is refused
  }
}

Given given(const ffi::AnyBuffer& buffer) {
  const auto dimensions = buffer.dimensions();
  return {buffer.untyped_data(), type_of(buffer.element_type()), static_cast<int>(dimensions.size()), dimensions.begin()};
}

ffi::Error invalid(const std::string& message) { return ffi::Error::InvalidArgument("wavenet_decode: " + message); }

ffi::Error run(ffi::RemainingArgs arguments, ffi::RemainingRets results, const Attributes& attributes) {
  const Loop* loop = chosen();
  if (!loop) return invalid("this machine has no instruction set of the name in WAVESYNTH_INSTRUCTION_SET");
  if (arguments.size() != kInputs || results.size() != kOutputs) return invalid("wrong number of buffers");
  Given in[kInputs], out[kOutputs];
  for (int i = 0; i < kInputs; ++i) {
    auto buffer = arguments.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return buffer.error();
    in[i] = given(*buffer);
  }
  for (int i = 0; i < kOutputs; ++i) {
    auto buffer = results.get<ffi::AnyBuffer>(i);
    if (buffer.has_error()) return buffer.error();
    out[i] = given(**buffer);
  }
  std::vector<int> ring_starts(attributes.layers);
  Call call{};
  if (const char* wrong = read_call(in, out, attributes, ring_starts.data(), call)) return invalid(wrong);
  // XLA gives the state's outputs the memory of its inputs, or copies of it where it must.
  const auto carry = [](const Given& from, const Given& to) {
    int64_t count = 1;
    for (int i = 0; i < from.rank; ++i) count *= from.dimensions[i];
    if (to.data != from.data) std::memcpy(to.data, from.data, count * sizeof(float));
  };
  carry(in[in_recent], out[out_recent_after]);
  carry(in[in_rings], out[out_rings_after]);
  if (!call.steps) return ffi::Error::Success();
  if (call.batch > 1) {
    run_apart(*loop, call, attributes.threads < call.batch ? attributes.threads : call.batch);
  } else if (attributes.threads > 1 && sharing.allowed()) {
    run_together(*loop, call, attributes.threads);
  } else {
    run_apart(*loop, call, 1);
  }
  return ffi::Error::Success();
}

ffi::Error decode(ffi::RemainingArgs arguments, ffi::RemainingRets results, ffi::Span<const int32_t> dilations, int32_t width,
                  int32_t taps, int32_t taps_ago, bool softmax, bool mulaw, float min_log_scale, float top_p, int32_t top_k,
                  int32_t threads) {
  try {
    return run(arguments, results,
               {dilations.begin(), static_cast<int64_t>(dilations.size()), width, taps, taps_ago, softmax, mulaw, min_log_scale,
                top_p, top_k, threads});
  } catch (const std::exception& error) {  // no memory
    return ffi::Error::Internal(std::string("wavenet_decode: ") + error.what());
  }
}

}  // namespace
}  // namespace wavesynth

#pragma GCC visibility push(default)  // what ctypes looks up

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    wavesynth_wavenet_decode, wavesynth::decode,
    xla::ffi::Ffi::Bind()
        .RemainingArgs()  // the tables in buffers.h
        .RemainingRets()
        .Attr<xla::ffi::Span<const int32_t>>("dilations")
        .Attr<int32_t>("kernel_width")
        .Attr<int32_t>("taps")
        .Attr<int32_t>("taps_ago")
        .Attr<bool>("softmax")
        .Attr<bool>("mulaw")
        .Attr<float>("min_log_scale")
        .Attr<float>("top_p")
        .Attr<int32_t>("top_k")
        .Attr<int32_t>("threads"));

extern "C" {

// The table of buffers that this library was built from.
const char* wavesynth_buffers() { return wavesynth::kTable; }

// Names of the instruction sets that this machine can run, the best first, separated by spaces.
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

// Reads `bytes` of memory `repeats` times, each of `threads` threads its own part: the least that reading weights can cost.
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
