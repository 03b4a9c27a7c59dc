/** Every gradient against central differences in float64, and against ONNX Runtime in both dialects. */
import { describe, expect, test } from 'vitest'
import { gradientCases as cases, float } from './gradient-cases.ts'
import {
  cast,
  crossEntropy,
  customGradient,
  gather,
  grad,
  iota,
  matmul,
  mul,
  neg,
  parameter,
  rematerialise,
  scalar,
  softmax,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tanh,
} from './index.ts'
import {
  distance,
  gradientError,
  gradientProgram,
  programOf,
  resultDistance,
  runOnnx,
  runReference,
} from './testing.ts'

describe('gradients', () => {
  test.each(Object.keys(cases))('%s: as central differences', (name) => {
    expect(gradientError(cases[name]!)).toBeLessThan(5e-7)
  })

  test.each(Object.keys(cases))('%s: emitted as ONNX', async (name) => {
    const { program, loss, feed } = gradientProgram(cases[name]!)
    for (const dialect of ['portable', 'cpu'] as const) {
      for (const whole of [program, loss]) {
        const expected = runReference(whole, feed)
        expect(resultDistance(await runOnnx(whole, feed, dialect), expected), dialect).toBeLessThan(3e-6)
      }
    }
  })

  test.each(Object.keys(cases))('%s: on WebAssembly', async (name) => {
    const { program, loss, feed } = gradientProgram(cases[name]!)
    for (const whole of [program, loss]) {
      const results = await runOnnx(whole, feed, 'portable', { build: 'wasm' })
      expect(resultDistance(results, runReference(whole, feed))).toBeLessThan(3e-6)
    }
  })

  test('of gradients: second derivatives are gradients of the first', () => {
    const build = (x: Tensor): Tensor => grad(sum(mul(softmax(x), tanh(x))), [x])[0]!
    expect(gradientError({ inputs: [float(2, 3)], build })).toBeLessThan(5e-7)
  })

  test('of gradients through a rematerialised block: its weight is counted once', () => {
    const build = (x: Tensor, weight: Tensor): Tensor => {
      const layer = (h: Tensor): Tensor => tanh(mul(h, weight))
      const output = rematerialise([rematerialise([x], layer)], layer)
      return grad(sum(mul(output, output)), [weight])[0]!
    }
    expect(gradientError({ inputs: [float(2, 3), float(3)], build })).toBeLessThan(5e-7)
  })

  test('are zero where the loss does not depend on the tensor', () => {
    const [x, y] = [parameter('x', [2]), parameter('y', [3])]
    const [dy] = grad(sum(x), [y])
    const { outputs } = { outputs: runReference(programOf({ dy: dy! }, []), {}) }
    expect(outputs.dy).toEqual({ shape: [3], data: [0, 0, 0] })
  })

  test('see placeholders of one name as one tensor', () => {
    const square = mul(parameter('x', []), parameter('x', []))
    const [dx] = grad(square, [parameter('x', [])])
    const results = runReference(programOf({ dx: dx! }, [parameter('x', [])]), {
      x: { shape: [], data: [3] },
    })
    expect(results.dx!.data).toEqual([6])
  })

  test('need a scalar loss', () => {
    expect(() => grad(parameter('x', [2]), [])).toThrow(
      /grad: the loss must be a float32 scalar.*float32\[2\]/,
    )
  })
})
describe('gradients by hand', () => {
  test('stopGradient makes a constant of its argument', () => {
    const x = parameter('x', [])
    const [dx] = grad(mul(x, stopGradient(x)), [x])
    expect(runReference(programOf({ dx: dx! }, [x]), { x: { shape: [], data: [3] } }).dx!.data).toEqual([3])
  })

  test('customGradient replaces what differentiation would have found', () => {
    const x = parameter('x', [2])
    // straight-through rounding: the step has gradient 1
    const rounded = customGradient(
      [x],
      (value) => cast(cast(value, 'int32'), 'float32'),
      ({ gradient }) => [gradient],
    )
    const loss = sum(mul(rounded, rounded))
    const results = runReference(programOf({ loss, dx: grad(loss, [x])[0]! }, [x]), {
      x: { shape: [2], data: [2.7, -1.2] },
    })
    expect(results.loss!.data).toEqual([5])
    expect(results.dx!.data).toEqual([4, -2])
  })

  test('customGradient wants one gradient per input', () => {
    const x = parameter('x', [])
    const odd = customGradient(
      [x],
      (value) => neg(value),
      () => [],
    )
    expect(() => grad(odd, [x])).toThrow(/customGradient: backward gave 0 gradients for 1 inputs/)
  })

  test('the embedding and the head of a tied model share one gradient', async () => {
    const table = parameter('table', [4, 3])
    const ids = parameter('ids', [2], 'int32')
    const logits = matmul(gather(table, ids), table, { transposeB: true })
    const [gradient] = grad(crossEntropy(logits, iota(2)), [table])
    const program = programOf({ gradient: gradient! }, [table, ids])
    const feed = { table: { shape: [4, 3], data: iotaNumbers(12) }, ids: { shape: [2], data: [3, 3] } }
    expect(
      distance((await runOnnx(program, feed)).gradient!.data, runReference(program, feed).gradient!.data),
    ).toBeLessThan(1e-6)
  })

  test('a scalar has gradient one with respect to itself', () => {
    const x = parameter('x', [])
    expect(
      runReference(programOf({ dx: grad(x, [x])[0]!, zero: sub(x, x), one: scalar(1) }, [x]), {
        x: { shape: [], data: [7] },
      }).dx!.data,
    ).toEqual([1])
  })
})

function iotaNumbers(length: number): number[] {
  return Array.from({ length }, (_, i) => i / length)
}
