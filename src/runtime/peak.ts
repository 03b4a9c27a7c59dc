/**
 * The speed of ONNX Runtime's matrix product alone, as the yardstick of a training step: what share of it does the
 * whole step reach?
 */
import { defineProgram, emitOnnx, matmul, parameter } from '../tensor/index.ts'
import type { Backend } from './types.ts'

/** A product [m, k] · [k, n]. */
export interface ProductShape {
  readonly m: number
  readonly k: number
  readonly n: number
}

export interface ProductSpeed extends ProductShape {
  /** Median of the runs, in milliseconds, and the speed that follows from it. */
  readonly medianMs: number
  readonly gigaflops: number
}

/**
 * Measures each product `runs` times, the shapes taking turns, so that a noisy moment falls on all of them. Factors
 * are state and the result is an update, so nothing but the product is in the run.
 */
export async function sgemmPeak(
  backend: Backend,
  shapes: readonly ProductShape[],
  { runs = 20 }: { readonly runs?: number } = {},
): Promise<ProductSpeed[]> {
  await using cleanUp = new AsyncDisposableStack()
  const candidates = []
  for (const { m, k, n } of shapes) {
    const a = parameter('a', [m, k])
    const b = parameter('b', [k, n])
    const product = parameter('product', [m, n])
    const program = defineProgram({
      name: `product-${m}x${k}x${n}`,
      inputs: {},
      state: { a, b, product },
      outputs: {},
      updates: { product: matmul(a, b) },
    })
    const executable = cleanUp.use(await backend.compile(emitOnnx(program, { dialect: backend.dialect })))
    const filled = (rows: number, columns: number) => ({
      dtype: 'float32' as const,
      shape: [rows, columns],
      data: new Float32Array(rows * columns).fill(0.01),
    })
    const state = cleanUp.use(
      await backend.createState({ a: filled(m, k), b: filled(k, n), product: filled(m, n) }),
    )
    candidates.push({ m, k, n, executable, state, times: [] as number[] })
  }
  const warmUps = 2
  for (let run = -warmUps; run < runs; run++) {
    for (const { executable, state, times } of candidates) {
      const started = performance.now()
      await executable.run(state, {})
      if (run >= 0) times.push(performance.now() - started)
    }
  }
  return candidates.map(({ m, k, n, times }) => {
    const medianMs = times.sort((x, y) => x - y)[Math.floor(times.length / 2)]!
    return { m, k, n, medianMs, gigaflops: (2 * m * k * n) / medianMs / 1e6 }
  })
}
