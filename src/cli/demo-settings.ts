/**
 * What the demo trains and how: chosen by measurement (docs/experiments.md) so that, in about three minutes on two
 * cores, three peers together come out ahead of one alone. A small batch per peer and few steps between merges make
 * the gain from averaging visible; the published outer momentum of 0.9 hurts a run of so few rounds.
 */
export const demoSettings = {
  /** Peers from the start; one of them is killed, and one more joins late. */
  peers: 3,
  /** The last of the first peers is killed in this share of the rounds… */
  killAt: 0.3,
  /** …and the newcomer starts in this one. */
  joinAt: 0.4,
  rounds: 46,
  model: { layers: 4, hiddenSize: 256, intermediateSize: 688, attentionHeads: 4, keyValueHeads: 4 },
  batchSize: 2,
  sequenceLength: 128,
  /** H */
  innerSteps: 10,
  outerLearningRate: 0.4,
  outerMomentum: 0.6,
  encoding: 'int8',
  learningRate: 1e-3,
  warmupSteps: 40,
  evaluationBatches: 60,
  /** Rounds between two measurements of the validation loss while the run goes on. */
  evaluateEveryRounds: 8,
  quorum: 0.5,
  graceSeconds: 3,
  vanishAfterSeconds: 10,
  corpusBytes: 3_000_000,
  seed: 7,
  /** What the sample continues: a heading of the default text, or any English text of the user's own. */
  sample: { prompt: '## ', ownPrompt: 'The ', tokens: 240, temperature: 0.7 },
} as const
