// Checks the buffers and attributes of one call: whatever passes here is safe for the loops.
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "native.h"

namespace wavesynth {
namespace {

const char* say(const char* format, ...) {
  thread_local char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

struct Sizes {
  int64_t known[kAxes];  // -1 where not known yet

  int64_t of(int64_t axis) const { return axis < 0 ? -axis : known[axis]; }
};

bool is_empty(const Given& given) { return given.rank == 1 && given.dimensions[0] == 0; }

// Whether a buffer fits its row of the table. Sizes that are not known yet are learned from it.
const char* check(const Buffer& buffer, const Given& given, Sizes& sizes) {
  const bool right_type = given.type == buffer.type || (buffer.type == kMatrix && (given.type == kFloat || given.type == kBfloat16));
  if (!right_type) return say("%s has a wrong type", buffer.name);
  if (buffer.optional && is_empty(given)) return nullptr;
  int64_t expected[6];
  int rank = 0;
  for (int i = 0; i < buffer.rank; ++i) {
    const int64_t axis = buffer.axes[i];
    if (!buffer.panels && axis >= 0 && sizes.known[axis] < 0 && i < given.rank) sizes.known[axis] = given.dimensions[i];
    if (axis == kC && sizes.known[kG] < 0) sizes.known[kG] = 2 * sizes.known[kC];
    expected[rank++] = sizes.of(axis);
  }
  if (buffer.panels) {
    const int64_t rows = expected[rank - 2], columns = expected[rank - 1];
    expected[rank - 2] = (columns + kPanelColumns - 1) / kPanelColumns;
    expected[rank - 1] = given.type == kBfloat16 ? (rows + 1) / 2 : rows;
    expected[rank++] = kPanelColumns;
    if (given.type == kBfloat16) expected[rank++] = 2;
  }
  if (given.rank != rank) return say("%s has %d axes: it must have %d", buffer.name, given.rank, rank);
  for (int i = 0; i < rank; ++i)
    if (given.dimensions[i] != expected[i])
      return say("%s has %lld places on axis %d: it must have %lld", buffer.name, static_cast<long long>(given.dimensions[i]), i,
                 static_cast<long long>(expected[i]));
  return nullptr;
}

const char* check_attributes(const Attributes& a, Sizes& sizes, int* ring_starts) {
  if (a.layers < kLeast[kL] || a.layers > kMost[kL]) return say("there are %lld layers", static_cast<long long>(a.layers));
  if (a.width < kLeast[kW] || a.width > kMost[kW]) return say("kernel_width is %d", a.width);
  if (a.taps < kLeast[kK] || a.taps > kMost[kK]) return say("taps is %d", a.taps);
  if (a.taps_ago < 0 || a.taps_ago > kMost[kN] - a.taps) return say("taps_ago is %d", a.taps_ago);
  if (a.softmax && (a.taps_ago || !a.mulaw)) return "a softmax is over mu-law codes, without taps one period ago";
  if (a.top_k < 0) return say("top_k is %d: it must be at least 1, or 0 for none", a.top_k);
  if (!(a.top_p <= 1)) return "top_p must be at most 1";
  if (!std::isfinite(a.min_log_scale)) return "min_log_scale must be finite";
  if (a.threads < 1 || a.threads > 4096) return say("threads is %d: it must lie between 1 and 4096", a.threads);
  int64_t slots = 0;
  for (int64_t layer = 0; layer < a.layers; ++layer) {
    if (a.dilations[layer] < 1 || a.dilations[layer] > kMost[kR]) return say("a dilation is %d", a.dilations[layer]);
    ring_starts[layer] = static_cast<int>(slots);
    slots += static_cast<int64_t>(a.width - 1) * a.dilations[layer];
    if (slots > kMost[kR]) return "the ring buffers are too long";
  }
  sizes.known[kL] = a.layers, sizes.known[kW] = a.width, sizes.known[kK] = a.taps, sizes.known[kN] = a.taps + a.taps_ago;
  sizes.known[kR] = slots;
  return nullptr;
}

const char* check_values(const Call& call, int64_t frames) {
  if (call.phase < 0 || call.phase > INT32_MAX - call.steps) return say("phase is %d", call.phase);
  if (!(call.temperature > 0) || !std::isfinite(call.temperature)) return "temperature must be above 0";
  for (int t = 0; call.conditioning && t < call.steps; ++t)
    if (call.frame[t] < 0 || call.frame[t] >= frames)
      return say("frame_index is %d at step %d, of %lld frames", call.frame[t], t, static_cast<long long>(frames));
  const int behind = call.taps_ago / 2, before = call.taps_ago - behind;
  for (int s = 0; call.periods && s < call.batch; ++s) {
    const int period = call.periods[s];
    if (period && (period < before || period > call.history - behind))
      return say("the period of stream %d is %d: it must be 0, or between %d and %d", s, period, before, call.history - behind);
  }
  return nullptr;
}

const float* floats(const Given& given) { return is_empty(given) ? nullptr : static_cast<const float*>(given.data); }
const int* ints(const Given& given) { return is_empty(given) ? nullptr : static_cast<const int*>(given.data); }
Matrix matrix(const Given& given) { return {given.data, given.type == kBfloat16}; }

}  // namespace

const char* read_call(const Given* in, const Given* out, const Attributes& a, int* ring_starts, Call& call) {
  Sizes sizes;
  for (int64_t& size : sizes.known) size = -1;
  if (const char* wrong = check_attributes(a, sizes, ring_starts)) return wrong;
  for (int i = 0; i < kInputs; ++i)
    if (const char* wrong = check(kInputTable[i], in[i], sizes)) return wrong;
  for (int i = 0; i < kOutputs; ++i)
    if (const char* wrong = check(kOutputTable[i], out[i], sizes)) return wrong;
  for (int axis = 0; axis < kAxes; ++axis)
    if (const int64_t size = sizes.known[axis]; size >= 0 && (size < kLeast[axis] || size > kMost[axis]))
      return say("%s is %lld: it must lie between %lld and %lld", kAxisNames[axis], static_cast<long long>(size),
                 static_cast<long long>(kLeast[axis]), static_cast<long long>(kMost[axis]));
  const int64_t inputs = sizes.known[kN], outputs = sizes.known[kP];
  if (a.softmax ? outputs != 256 : outputs < inputs + 3 || (outputs - inputs) % 3 || (outputs - inputs) / 3 > kMostComponents)
    return say("there are %lld outputs: a softmax has 256, a mixture 3 for each of at most %d logistics and 1 for each tap",
               static_cast<long long>(outputs), kMostComponents);
  if (is_empty(a.softmax ? in[in_embedding] : in[in_front])) return "the first layer has no weights";
  if (!is_empty(in[in_conditioning]) && is_empty(in[in_frame_index]) && sizes.known[kT]) return "conditioning comes without frame_index";
  if (sizes.known[kA] < inputs - a.taps_ago) return "fewer samples are remembered than the first layer sees";
  // Places in the scratch of all streams are counted in 32 bits.
  const int64_t steps = sizes.known[kT], batch = sizes.known[kB], channels = sizes.known[kC];
  if ((sizes.known[kA] + steps + 64) * batch > INT32_MAX || (sizes.known[kW] * channels + 64) * batch > INT32_MAX ||
      (sizes.known[kG] + sizes.known[kS] + sizes.known[kH] + outputs + inputs + 256) * batch > INT32_MAX)
    return "there are too many streams for their length and width";

  call.steps = static_cast<int>(steps);
  call.batch = static_cast<int>(batch);
  call.layers = static_cast<int>(sizes.known[kL]);
  call.channels = static_cast<int>(channels);
  call.skip_channels = static_cast<int>(sizes.known[kS]);
  call.head_channels = static_cast<int>(sizes.known[kH]);
  call.outputs = static_cast<int>(outputs);
  call.width = a.width, call.taps = a.taps, call.taps_ago = a.taps_ago;
  call.history = static_cast<int>(sizes.known[kA]);
  call.inputs = static_cast<int>(inputs);
  call.softmax = a.softmax, call.mulaw = a.mulaw;
  call.whitening = matrix(in[in_whitening]);
  call.front = matrix(in[in_front]);
  call.embedding = floats(in[in_embedding]);
  call.front_bias = floats(in[in_front_bias]);
  call.linear = floats(in[in_linear]);
  call.log_scale = *floats(in[in_log_scale]);
  call.min_log_scale = a.min_log_scale;
  call.dilated = matrix(in[in_dilated]);
  call.residual = matrix(in[in_residual]);
  call.skip = matrix(in[in_skip]);
  call.head = matrix(in[in_head]);
  call.out = matrix(in[in_out]);
  call.dilated_bias = floats(in[in_dilated_bias]);
  call.residual_bias = floats(in[in_residual_bias]);
  call.skip_bias = floats(in[in_skip_bias]);
  call.head_bias = floats(in[in_head_bias]);
  call.out_bias = floats(in[in_out_bias]);
  call.grid = floats(in[in_grid]);
  call.edges = floats(in[in_edges]);
  call.conditioning = floats(in[in_conditioning]);
  call.frame = ints(in[in_frame_index]);
  call.periods = ints(in[in_periods]);
  call.uniforms = floats(in[in_uniforms]);
  call.forced = floats(in[in_forced]);
  call.temperature = *floats(in[in_temperature]);
  call.top_k = a.top_k, call.top_p = a.top_p;
  call.dilations = a.dilations;
  call.ring_starts = ring_starts;
  call.phase = *ints(in[in_phase]);
  call.samples = static_cast<float*>(out[out_samples].data);
  call.log_probs = is_empty(out[out_log_probs]) ? nullptr : static_cast<float*>(out[out_log_probs].data);
  call.recent = static_cast<float*>(out[out_recent_after].data);
  call.rings = static_cast<float*>(out[out_rings_after].data);
  return check_values(call, is_empty(in[in_conditioning]) ? 0 : in[in_conditioning].dimensions[0]);
}

}  // namespace wavesynth
