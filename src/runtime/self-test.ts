/**
 * Whether a backend computes, and how fast: one small program with a product, a reduction and a state that is
 * updated, whose results are known, and one timed program. `auto` chooses by it and `doctor` reports it. It also
 * tells a graphics card from a software adapter, which is some hundred times slower than the CPU.
 */
import { GroundswellError } from '../core/index.ts'
import {
  defineProgram,
  emitOnnx,
  interpret,
  matmul,
  mul,
  type Program,
  parameter,
  sub,
  sum,
  tanh,
} from '../tensor/index.ts'
import type { Backend, HostTensor } from './types.ts'

export interface SelfTest {
  /** Wall time of the timed program, best of its runs. */
  readonly selfTestMs: number
}

const float32 = (shape: readonly number[], at: (i: number) => number): HostTensor => ({
  dtype: 'float32',
  shape,
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => at(i)),
})

/** loss = Σ tanh(x·w), w ← w − rate·x·w */
function step(size: number): Program {
  const x = parameter('x', [size, size])
  const rate = parameter('rate', [])
  const w = parameter('w', [size, size])
  const product = matmul(x, w)
  return defineProgram({
    name: `self-test-${size}`,
    inputs: { x, rate },
    state: { w },
    outputs: { loss: sum(tanh(product)) },
    updates: { w: sub(w, mul(rate, product)) },
  })
}

const data = (size: number): { inputs: Record<string, HostTensor>; state: Record<string, HostTensor> } => ({
  inputs: {
    x: float32([size, size], (i) => ((i * 7) % 13) / (13 * size) - 0.4 / size),
    rate: float32([], () => 0.5),
  },
  state: { w: float32([size, size], (i) => ((i * 5) % 11) / 11 - 0.5) },
})

const tolerance = 1e-4

/** Throws `runtime/self-test` when a result is wrong. `giveUpMs` ends the timing of a backend that is far behind. */
export async function selfTest(
  backend: Backend,
  giveUpMs: number = Number.POSITIVE_INFINITY,
): Promise<SelfTest> {
  await checkValues(backend)
  return { selfTestMs: await time(backend, giveUpMs) }
}

async function checkValues(backend: Backend): Promise<void> {
  const program = step(8)
  const { inputs, state: initial } = data(8)
  await using executable = await backend.compile(emitOnnx(program, { dialect: backend.dialect }))
  await using state = await backend.createState(initial)
  let expected: Record<string, { shape: readonly number[]; data: ArrayLike<number> }> = initial
  for (let run = 0; run < 3; run++) {
    const outputs = await executable.run(state, inputs)
    const reference = interpret(program, { inputs, state: expected })
    expected = reference.updates
    compare(backend, 'loss', outputs.loss!.data, reference.outputs.loss!.data)
  }
  compare(backend, 'state', (await state.read()).w!.data, expected.w!.data)
}

function compare(backend: Backend, what: string, got: ArrayLike<number>, expected: ArrayLike<number>): void {
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(got[i]! - expected[i]!)
    if (!(error <= tolerance * Math.max(1, Math.abs(expected[i]!)))) {
      throw new GroundswellError(
        `The ${backend.name} backend computes wrongly: ${what}[${i}] is ${got[i]}, expected ${expected[i]}.`,
        { code: 'runtime/self-test', remedy: 'Use another backend; a driver update may help.' },
      )
    }
  }
}

async function time(backend: Backend, giveUpMs: number): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  // A small program first: where it already takes longer than the large one may, the large one is not worth its time.
  for (const size of [128, 768]) {
    const { inputs, state: initial } = data(size)
    await using executable = await backend.compile(emitOnnx(step(size), { dialect: backend.dialect }))
    await using state = await backend.createState(initial)
    best = Number.POSITIVE_INFINITY
    for (let run = 0; run < 4; run++) {
      const started = performance.now()
      await executable.run(state, inputs)
      best = Math.min(best, performance.now() - started)
    }
    if (best > giveUpMs) break
  }
  return best
}
