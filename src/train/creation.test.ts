/** What is left of a trainer that could not be made: nothing. */
import { expect, test } from 'vitest'
import { initialParameters, llamaConfig } from '../model/index.ts'
import type { Backend, Executable } from '../runtime/index.ts'
import { Evaluator } from './evaluator.ts'
import { GradientTrainer } from './gradient-trainer.ts'
import { defaultTrainingSettings } from './settings.ts'
import { Trainer } from './trainer.ts'

/** A backend whose memory is full after `programs` compiled ones, and the programs that nobody has closed. */
function fullBackend(programs: number): { backend: Backend; open: Set<string> } {
  const open = new Set<string>()
  const full = (): Promise<never> => Promise.reject(new Error('memory is full'))
  const backend: Backend = {
    ...{ name: 'cpu', place: 'processor', dialect: 'cpu', threads: 1 },
    compile: async (program) => {
      if (open.size === programs) return full()
      open.add(program.name)
      const executable: Executable = {
        ...{ program, compileMs: 0, run: full },
        [Symbol.asyncDispose]: async () => void open.delete(program.name),
      }
      return executable
    },
    createState: full,
    [Symbol.asyncDispose]: async () => undefined,
  }
  return { backend, open }
}

const config = llamaConfig({
  ...{ vocabularySize: 32, hiddenSize: 8, intermediateSize: 8, layers: 1, attentionHeads: 2 },
})
const parameters = initialParameters(config, 0)
const settings = { ...defaultTrainingSettings(), batchSize: 1, sequenceLength: 4 }
const accumulating = { ...settings, gradientAccumulation: 2 }

test.each([
  {
    what: 'a trainer without its state',
    programs: 1,
    create: (backend: Backend) => Trainer.create({ backend, config, parameters, settings }),
  },
  {
    what: 'a trainer without its second program',
    programs: 1,
    create: (backend: Backend) => Trainer.create({ backend, config, parameters, settings: accumulating }),
  },
  {
    what: 'a trainer of two programs without its state',
    programs: 2,
    create: (backend: Backend) => Trainer.create({ backend, config, parameters, settings: accumulating }),
  },
  {
    what: 'a gradient trainer without its state',
    programs: 1,
    create: (backend: Backend) => GradientTrainer.create({ backend, config, parameters, settings }),
  },
  {
    what: 'an evaluator without its state',
    programs: 1,
    create: (backend: Backend) =>
      Evaluator.create({ backend, config, parameters, batchSize: 1, sequenceLength: 4 }),
  },
])('$what leaves no program open', async ({ programs, create }) => {
  const { backend, open } = fullBackend(programs)
  await expect(create(backend)).rejects.toThrow('memory is full')
  expect([...open]).toEqual([])
})
