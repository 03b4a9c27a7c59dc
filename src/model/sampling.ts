/**
 * Choosing the next token from a model's logits: greedily, or at random after temperature, top-k and nucleus
 * (top-p, Holtzman et al. 2020, https://arxiv.org/abs/1904.09751) have narrowed the choice, applied in the order of
 * `transformers`. The same logits and the same random state give the same token.
 */
import { GroundswellError, type Random } from '../core/index.ts'

export interface SamplingSettings {
  /** Divides the logits; 0 takes the most likely token. Default 1. */
  readonly temperature?: number
  /** Keeps this many of the most likely tokens. Default: all. */
  readonly topK?: number
  /** Keeps the most likely tokens that together reach this probability. Default 1: all. */
  readonly topP?: number
}

/**
 * Draws a token.
 * @param logits one per token of the vocabulary; minus infinity forbids a token
 * @throws GroundswellError `model/not-finite` when no logit is a number above minus infinity, or one is NaN or infinity
 */
export function sample(
  logits: Float32Array,
  settings: SamplingSettings & { readonly random: Random },
): number {
  const { temperature = 1, topK, topP = 1, random } = checkSampling(settings)
  const best = mostLikely(logits)
  if (temperature === 0 || topK === 1 || topP === 0) return best
  const highest = logits[best]!

  let candidates = Array.from(logits.keys())
  if (topK !== undefined || topP < 1) {
    // Ties in favour of the lower id, so that the choice does not depend on the sort.
    candidates.sort((a, b) => logits[b]! - logits[a]! || a - b)
    if (topK !== undefined) candidates = candidates.slice(0, topK)
  }
  const weights = Float64Array.from(candidates, (token) => Math.exp((logits[token]! - highest) / temperature))
  let total = weights.reduce((sum, weight) => sum + weight, 0)
  if (topP < 1) {
    let kept = 0
    let mass = 0
    // The token that crosses the threshold is kept, so there is always one.
    while (kept < weights.length && mass < topP * total) mass += weights[kept++]!
    candidates.length = kept
    total = mass
  }

  let remaining = random.nextFloat() * total
  for (const [place, token] of candidates.entries()) {
    remaining -= weights[place]!
    if (remaining < 0) return token
  }
  return best // rounding took the last crumb
}

/** The most likely token, the lowest id among equals. */
export function mostLikely(logits: Float32Array): number {
  let best = -1
  let highest = Number.NEGATIVE_INFINITY
  for (let token = 0; token < logits.length; token++) {
    const logit = logits[token]!
    if (logit > highest) {
      highest = logit
      best = token
    } else if (Number.isNaN(logit)) {
      highest = Number.NaN
      break
    }
  }
  if (!Number.isFinite(highest)) {
    throw new GroundswellError('The model gives logits that are not finite.', {
      code: 'model/not-finite',
      remedy: 'The checkpoint has diverged or is damaged; use an earlier one.',
    })
  }
  return best
}

/** ln Σ exp(logit), without overflow: a logit less this is a log-probability. */
export function logSumExp(logits: Float32Array): number {
  const highest = logits[mostLikely(logits)]!
  return highest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0))
}

/**
 * Refuses settings that mean nothing.
 * @throws GroundswellError `sampling/settings`
 */
export function checkSampling<Settings extends SamplingSettings>(settings: Settings): Settings {
  const { temperature = 1, topK = 1, topP = 1 } = settings
  const problem =
    !Number.isFinite(temperature) || temperature < 0
      ? `Temperature must be 0 or more, not ${temperature}.`
      : !Number.isSafeInteger(topK) || topK < 1
        ? `Top-k must be a whole number of 1 or more, not ${topK}.`
        : Number.isNaN(topP) || topP < 0 || topP > 1
          ? `Top-p must lie between 0 and 1, not ${topP}.`
          : undefined
  if (problem !== undefined) {
    throw new GroundswellError(problem, { code: 'sampling/settings', remedy: 'Change the setting.' })
  }
  return settings
}
