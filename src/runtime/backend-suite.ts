/**
 * What every backend must do, whatever it runs on. Each adapter's test calls this with a way to open it; a test that
 * cannot hold for an adapter is skipped by name, with the reason in the report.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  add,
  cast,
  defineProgram,
  emitOnnx,
  interpret,
  logicalNot,
  matmul,
  mul,
  type Program,
  parameter,
  sub,
  sum,
  tanh,
} from '../tensor/index.ts'
import type { Backend, Executable, HostTensor } from './types.ts'

export interface BackendSuite {
  readonly make: () => Promise<Backend>
  readonly skip?: readonly { readonly reason: string; readonly tests: readonly string[] }[]
  /** Bytes that the process or the backend holds, for the test that a thousand runs need no more memory. */
  readonly heldBytes?: () => number
}

const float32 = (shape: readonly number[], ...data: number[]): HostTensor => ({
  dtype: 'float32',
  shape,
  data: Float32Array.from(data),
})

const numbers = (tensor: HostTensor | undefined): number[] => [...tensor!.data]

// A step that reads `weights`, updates it and `count`, and reports; and an evaluation that only reads `weights`.
const weights = parameter('weights', [2, 2])
const count = parameter('count', [], 'int32')
const x = parameter('x', [2, 2])
const rate = parameter('rate', [])
const loss = sum(tanh(matmul(x, weights)))

const step: Program = defineProgram({
  name: 'step',
  inputs: { x, rate },
  state: { weights, count },
  outputs: { loss },
  updates: { weights: sub(weights, mul(rate, matmul(x, weights))), count: add(count, 1) },
})
const evaluation: Program = defineProgram({
  name: 'evaluation',
  inputs: { x },
  state: { weights },
  outputs: { loss },
  updates: {},
})

const inputs = { x: float32([2, 2], 0.5, -0.25, 0.125, 1), rate: float32([], 0.5) }
const initial = {
  weights: float32([2, 2], 1, 2, 3, 4),
  count: { dtype: 'int32', shape: [], data: new Int32Array([0]) } satisfies HostTensor,
  untouched: float32([3], 7, 8, 9),
}

export function runBackendSuite({ make, skip = [], heldBytes }: BackendSuite): void {
  const check = (name: string, body: () => Promise<void>): void => {
    const skipped = skip.find(({ tests }) => tests.includes(name))
    if (skipped === undefined) test(name, body)
    else test.skip(`${name} (${skipped.reason})`, body)
  }
  let backend: Backend
  const compile = (program: Program): Promise<Executable> =>
    backend.compile(emitOnnx(program, { dialect: backend.dialect }))
  beforeAll(async () => {
    backend = await make()
  })
  afterAll(() => backend?.[Symbol.asyncDispose]())

  describe('what a program computes', () => {
    check('is what the reference interpreter computes', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      let expected: Parameters<typeof interpret>[1]['state'] = initial
      for (let run = 0; run < 5; run++) {
        const outputs = await executable.run(state, inputs)
        const reference = interpret(step, { inputs, state: expected! })
        expected = reference.updates
        expect(numbers(outputs.loss)[0]).toBeCloseTo(reference.outputs.loss!.data[0]!, 4)
      }
      const held = await state.read()
      expect(numbers(held.weights)).toEqual(
        [...(expected!.weights!.data as Float64Array)].map((value) => expect.closeTo(value, 4)),
      )
      expect(numbers(held.count)).toEqual([5])
    })

    check('comes back in memory that later runs leave alone', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      const first = await executable.run(state, inputs)
      const before = numbers(first.loss)
      await executable.run(state, inputs)
      expect(numbers(first.loss)).toEqual(before)
    })

    check('may be a truth value', async () => {
      const flag = parameter('flag', [3], 'bool')
      await using executable = await compile(
        defineProgram({
          name: 'negation',
          inputs: { flag },
          state: {},
          outputs: { not: logicalNot(flag), number: cast(flag, 'float32') },
          updates: {},
        }),
      )
      await using state = await backend.createState({})
      const outputs = await executable.run(state, {
        flag: { dtype: 'bool', shape: [3], data: new Uint8Array([1, 0, 1]) },
      })
      expect(numbers(outputs.not)).toEqual([0, 1, 0])
      expect(numbers(outputs.number)).toEqual([1, 0, 1])
    })

    check('does not disturb arithmetic in JavaScript', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      await executable.run(state, inputs)
      const denormal = Number.MIN_VALUE * inputs.x.data.length
      expect(denormal / 2).toBeGreaterThan(0)
    })
  })

  describe('a state', () => {
    check('reads back what was written', async () => {
      await using state = await backend.createState(initial)
      expect(await state.read()).toEqual(initial)
      await state.write({ weights: float32([2, 2], 5, 6, 7, 8) })
      expect(numbers((await state.read(['weights'])).weights)).toEqual([5, 6, 7, 8])
      expect(Object.keys(await state.read(['weights']))).toEqual(['weights'])
    })

    check('is a copy, both ways', async () => {
      const mine = float32([1], 1)
      await using state = await backend.createState({ value: mine })
      mine.data[0] = 2
      const read = await state.read()
      expect(numbers(read.value)).toEqual([1])
      read.value!.data[0] = 3
      expect(numbers((await state.read()).value)).toEqual([1])
    })

    check('is not made when its making is aborted', async () => {
      const signal = AbortSignal.abort(new Error('stopped'))
      await expect(backend.createState(initial, { signal })).rejects.toThrow('stopped')
    })

    check('is updated exactly once by a run, and only where the program says so', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      for (let run = 1; run <= 3; run++) {
        await executable.run(state, inputs)
        const held = await state.read()
        expect(numbers(held.count)).toEqual([run])
        expect(numbers(held.untouched)).toEqual([7, 8, 9])
      }
    })

    check('is shared by several programs', async () => {
      await using training = await compile(step)
      await using scoring = await compile(evaluation)
      await using state = await backend.createState(initial)
      const before = await scoring.run(state, { x: inputs.x })
      expect(numbers(await scoring.run(state, { x: inputs.x }).then((o) => o.loss))).toEqual(
        numbers(before.loss),
      )
      const trained = await training.run(state, inputs)
      expect(numbers(trained.loss)).toEqual([expect.closeTo(numbers(before.loss)[0]!, 5)])
      const after = await scoring.run(state, { x: inputs.x })
      const next = await training.run(state, inputs)
      expect(numbers(after.loss)).toEqual([expect.closeTo(numbers(next.loss)[0]!, 5)])
      expect(numbers(after.loss)).not.toEqual(numbers(before.loss))
    })

    check('may be written between runs', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      const first = await executable.run(state, inputs)
      await executable.run(state, inputs)
      await state.write({ weights: initial.weights })
      expect(await executable.run(state, inputs)).toEqual(first)
    })

    check('may be used by runs that were started together', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      await Promise.all(Array.from({ length: 8 }, () => executable.run(state, inputs)))
      expect(numbers((await state.read()).count)).toEqual([8])
    })

    check('may take an update that is an input or another state tensor as it is', async () => {
      const a = parameter('a', [2])
      const b = parameter('b', [2])
      const given = parameter('given', [2])
      await using executable = await compile(
        defineProgram({
          name: 'shift',
          inputs: { given },
          state: { a, b },
          outputs: {},
          updates: { a: b, b: given },
        }),
      )
      await using state = await backend.createState({ a: float32([2], 1, 1), b: float32([2], 2, 2) })
      await executable.run(state, { given: float32([2], 3, 4) })
      expect(await state.read()).toEqual({ a: float32([2], 2, 2), b: float32([2], 3, 4) })
    })

    check('needs no more memory after a thousand runs', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      for (let run = 0; run < 50; run++) await executable.run(state, inputs)
      const before = heldBytes?.() ?? 0
      for (let run = 0; run < 1000; run++) await executable.run(state, inputs)
      expect((heldBytes?.() ?? 0) - before).toBeLessThanOrEqual(0)
      expect(numbers((await state.read()).count)).toEqual([1050])
    })
  })

  describe('a program that updates in place', () => {
    const overwriting: Program = defineProgram({ ...step, updatesInPlace: true })

    check('computes the bits that it computes beside the old values', async () => {
      const bitsAfter = async (program: Program): Promise<unknown> => {
        await using executable = await compile(program)
        await using state = await backend.createState(initial)
        const seen: unknown[] = []
        for (let run = 0; run < 5; run++) {
          seen.push(await executable.run(state, inputs), await state.read())
        }
        return seen
      }
      expect(await bitsAfter(overwriting)).toEqual(await bitsAfter(step))
    })

    check('shares its state with programs that do and that do not, and with writers', async () => {
      await using training = await compile(overwriting)
      await using beside = await compile(step)
      await using scoring = await compile(evaluation)
      await using state = await backend.createState(initial)
      const losses: number[] = []
      for (const program of [training, beside, training, training, beside, beside]) {
        losses.push(...numbers((await program.run(state, inputs)).loss))
      }
      expect(numbers((await state.read()).count)).toEqual([6])
      await state.write({ weights: initial.weights })
      const again: number[] = []
      for (let run = 0; run < losses.length; run++) {
        again.push(...numbers((await scoring.run(state, { x: inputs.x })).loss))
        await beside.run(state, inputs)
      }
      expect(again).toEqual(losses.map((value) => expect.closeTo(value, 5)))
      expect(numbers((await state.read()).untouched)).toEqual([7, 8, 9])
    })
  })

  describe('a mistake is named before anything runs', () => {
    const failing = async (attempt: () => Promise<unknown>): Promise<unknown> => {
      try {
        return await attempt()
      } catch (failure) {
        return failure
      }
    }

    check('inputs', async () => {
      await using executable = await compile(step)
      await using state = await backend.createState(initial)
      const run = (given: Record<string, HostTensor>) => failing(() => executable.run(state, given))
      expect(await run({ x: inputs.x })).toMatchObject({
        code: 'runtime/inputs',
        message: expect.stringContaining('“rate”'),
      })
      expect(await run({ ...inputs, tokens: inputs.x })).toMatchObject({
        code: 'runtime/inputs',
        message: expect.stringContaining('“tokens”'),
      })
      expect(await run({ ...inputs, x: float32([4], 1, 2, 3, 4) })).toMatchObject({
        code: 'runtime/inputs',
        message: 'The input “x” of program “step” is float32 [4], expected float32 [2, 2].',
      })
      expect(
        await run({ ...inputs, x: { dtype: 'int32', shape: [2, 2], data: new Int32Array(4) } }),
      ).toMatchObject({ code: 'runtime/inputs', message: expect.stringContaining('int32 [2, 2]') })
      expect(await run({ ...inputs, x: float32([2, 2], 1) })).toMatchObject({ code: 'runtime/data' })
      expect(numbers((await state.read()).count)).toEqual([0])
    })

    check('state', async () => {
      await using executable = await compile(step)
      await using lacking = await backend.createState({ weights: initial.weights })
      expect(await failing(() => executable.run(lacking, inputs))).toMatchObject({
        code: 'runtime/state',
        message: 'The state given to program “step” lacks “count”.',
      })
      await using other = await backend.createState({ ...initial, weights: float32([1], 1) })
      expect(await failing(() => executable.run(other, inputs))).toMatchObject({
        code: 'runtime/state',
        message: expect.stringContaining('float32 [1]'),
      })
      expect(await failing(() => other.read(['nothing']))).toMatchObject({ code: 'runtime/state' })
      expect(await failing(() => other.write({ nothing: inputs.rate }))).toMatchObject({
        code: 'runtime/state',
      })
      expect(await failing(() => other.write({ weights: inputs.x }))).toMatchObject({ code: 'runtime/state' })
    })

    check('a program that is no ONNX model', async () => {
      const program = { ...emitOnnx(step, { dialect: backend.dialect }), bytes: new Uint8Array([1, 2, 3]) }
      expect(await failing(() => backend.compile(program))).toMatchObject({
        code: 'runtime/compile',
        message: expect.stringContaining('“step”'),
      })
    })
  })

  describe('disposal', () => {
    check('ends a state, an executable and the backend, and may be repeated', async () => {
      const own = await make()
      const executable = await own.compile(emitOnnx(step, { dialect: own.dialect }))
      const state = await own.createState(initial)
      const second = await own.createState(initial)
      await executable.run(state, inputs)
      await state[Symbol.asyncDispose]()
      await state[Symbol.asyncDispose]()
      await expect(state.read()).rejects.toMatchObject({ code: 'runtime/disposed' })
      await expect(executable.run(state, inputs)).rejects.toMatchObject({ code: 'runtime/disposed' })
      await executable.run(second, inputs)
      await executable[Symbol.asyncDispose]()
      await expect(executable.run(second, inputs)).rejects.toMatchObject({ code: 'runtime/disposed' })
      await own[Symbol.asyncDispose]()
      await own[Symbol.asyncDispose]()
      await expect(second.read()).rejects.toMatchObject({ code: 'runtime/disposed' })
      await expect(own.createState(initial)).rejects.toMatchObject({ code: 'runtime/disposed' })
    })

    check('leaves values that a program made for others to use', async () => {
      await using state = await backend.createState(initial)
      {
        await using executable = await compile(step)
        await executable.run(state, inputs)
      }
      const held = await state.read()
      expect(numbers(held.count)).toEqual([1])
      await using scoring = await compile(evaluation)
      expect(numbers((await scoring.run(state, { x: inputs.x })).loss)[0]).not.toBeNaN()
    })
  })
}
