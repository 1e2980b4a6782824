// Output distributions of one sample: scalar code, compiled once for the oldest processor.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "native.h"

namespace wavesynth {
namespace {

constexpr int kCodes = 256;

float quantize(const Call& call, float value) {
  if (call.mulaw) return call.grid[encode_mulaw(value)];
  return std::clamp(std::nearbyint(value * 32768.0f), -32768.0f, 32767.0f) / 32768.0f;
}

double log_sigmoid(double x) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); }

// Logits [components] to log weights.
void log_softmax(const float* logits, int components, float* log_weights) {
  float highest = *std::max_element(logits, logits + components), sum = 0;
  for (int k = 0; k < components; ++k) sum += std::exp(logits[k] - highest);
  for (int k = 0; k < components; ++k) log_weights[k] = logits[k] - highest - std::log(sum);
}

int components_of(const Call& call) { return (call.outputs - call.inputs) / 3; }

}  // namespace

int encode_mulaw(float sample) {
  float companded = std::copysign(std::log1p((kCodes - 1) * std::fabs(sample)) / std::log(256.0f), sample);
  const float code = std::floor((companded + 1) * ((kCodes - 1) / 2.0f) + 0.5f);
  return static_cast<int>(std::fmin(std::fmax(code, 0.0f), kCodes - 1.0f));  // of NaN: 0
}

void restrict_logits(float* logits, int size, int top_k, float top_p) {
  float sorted[kCodes];
  std::copy(logits, logits + size, sorted);
  std::sort(sorted, sorted + size, std::greater<float>());
  float threshold = top_k ? sorted[std::min(top_k, size) - 1] : -INFINITY;
  if (top_p >= 0) {
    float sum = 0, before = 0, least = INFINITY;
    for (int i = 0; i < size; ++i) sum += std::exp(sorted[i] - sorted[0]);
    for (int i = 0; i < size; ++i) {
      if (before < top_p) least = sorted[i];
      before += std::exp(sorted[i] - sorted[0]) / sum;
    }
    threshold = std::max(threshold, least);
  }
  for (int i = 0; i < size; ++i)
    if (logits[i] < threshold) logits[i] = -INFINITY;
}

int pick_code(const float* weights, int size, float uniform) {
  constexpr int kBlock = 16;
  float blocks[kCodes / kBlock] = {}, total = 0, sum = 0;  // independent sums, for the processor to overlap
  for (int i = 0; i < size; ++i) blocks[i / kBlock] += weights[i];
  for (float block : blocks) total += block;
  const float wanted = uniform * total;
  int start = 0, last = 0;
  while (start + kBlock < size && sum + blocks[start / kBlock] <= wanted) sum += blocks[start / kBlock], start += kBlock;
  for (int i = start; i < size; ++i) {
    if (weights[i] > 0) last = i;  // an entry without mass is never picked, whatever the rounding
    sum += weights[i];
    if (sum > wanted) return i;
  }
  return last;
}

float draw_mixture(const Call& call, const float* outputs, float pick, float value) {
  int components = components_of(call);
  const float *locations = outputs + components, *log_scales = outputs + 2 * components;
  float weights[kMostComponents];
  log_softmax(outputs, components, weights);
  for (int k = 0; k < components; ++k) weights[k] /= call.temperature;
  if (call.top_k) restrict_logits(weights, components, call.top_k, -1);
  float highest = *std::max_element(weights, weights + components);
  for (int k = 0; k < components; ++k) weights[k] = std::exp(weights[k] - highest);
  int k = pick_code(weights, components, pick);
  float scale = std::exp(std::max(log_scales[k], call.min_log_scale)) * call.temperature;
  float centred = std::clamp(value, 1e-7f, 1 - 1e-7f) - 0.5f;
  float quantile = 0.5f + centred * (call.top_p < 0 ? 1.0f : call.top_p);
  return quantize(call, locations[k] + scale * (std::log(quantile) - std::log1p(-quantile)));
}

// A bin's mass under one logistic is sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)).
float score_mixture(const Call& call, const float* outputs, float sample) {
  int components = components_of(call);
  const float *locations = outputs + components, *log_scales = outputs + 2 * components;
  float lower, upper;
  bool lowest, highest;
  if (call.mulaw) {
    int code = encode_mulaw(sample);
    lower = call.edges[code], upper = call.edges[code + 1];
    lowest = code == 0, highest = code == kCodes - 1;
  } else {
    float step = std::clamp(std::nearbyint(sample * 32768.0f), -32768.0f, 32767.0f);
    lower = (step - 0.5f) / 32768.0f, upper = (step + 0.5f) / 32768.0f;
    lowest = step <= -32768, highest = step >= 32767;
  }
  float weights[kMostComponents];
  log_softmax(outputs, components, weights);
  double terms[kMostComponents], most = -INFINITY, sum = 0;
  for (int k = 0; k < components; ++k) {
    double scale = std::exp(static_cast<double>(std::max(log_scales[k], call.min_log_scale)));
    double term = weights[k];
    if (!highest) term += log_sigmoid((upper - locations[k]) / scale);
    if (!lowest) term += log_sigmoid((locations[k] - lower) / scale);
    if (!highest && !lowest) term += std::log(-std::expm1(-std::max((upper - lower) / scale, 1e-12)));
    terms[k] = term;
    most = std::max(most, term);
  }
  for (int k = 0; k < components; ++k) sum += std::exp(terms[k] - most);
  return static_cast<float>(most + std::log(sum));
}

float score_softmax(const float* logits, int code) {
  float highest = *std::max_element(logits, logits + kCodes);
  double sum = 0;
  for (int i = 0; i < kCodes; ++i) sum += std::exp(logits[i] - highest);
  return static_cast<float>(logits[code] - highest - std::log(sum));
}

}  // namespace wavesynth
