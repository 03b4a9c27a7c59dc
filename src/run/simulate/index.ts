/** Whole runs on a virtual clock: the real reducer with up to ten thousand simulated peers, and real training in them. */
export { type CostModel, costsOf, costsOfParameters, costsOfSizes } from './costs.ts'
export type { PeerRow, Quantiles, RoundRow, SimulationReport } from './report.ts'
export { type SimulationOptions, simulate, simulationLimits } from './simulation.ts'
export {
  equalPeers,
  type TogetherOptions,
  type TogetherResult,
  trainTogether,
  trainToyTogether,
} from './training.ts'
export { type ChurnSettings, noChurn, type WorldSettings } from './world.ts'
