/** Floor 2: the inner loop. Settings, schedules, the compiled step, and a trainer that resumes bit for bit. */
export { buildEvaluation } from './evaluation.ts'
export { Evaluator, type EvaluatorOptions } from './evaluator.ts'
export { GradientTrainer, type GradientTrainerOptions, gradientPrograms } from './gradient-trainer.ts'
export * from './local-run.ts'
export * from './schedule.ts'
export * from './settings.ts'
export {
  type BatchOptions,
  buildApplyStep,
  buildGradientStep,
  buildTrainStep,
  emptyGradientSums,
  type GradientStepOptions,
  initialTrainingState,
  isDecayed,
  type TrainStepOptions,
} from './step.ts'
export { type StepOptions, stepPrograms } from './step-runner.ts'
export * from './trainer.ts'
export * from './training-state.ts'
