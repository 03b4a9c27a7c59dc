/**
 * What is written: the same bytes every time, nothing twice, nothing needless, and what rematerialisation
 * adds.
 */
import { describe, expect, test } from 'vitest'
import {
  add,
  broadcastTo,
  concat,
  constant,
  type Dialect,
  div,
  emitOnnx,
  exp,
  gather,
  grad,
  iota,
  matmul,
  mul,
  neg,
  ones,
  type Program,
  parameter,
  rematerialise,
  reshape,
  scalar,
  silu,
  slice,
  softmax,
  split,
  stopGradient,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
  zeros,
} from './index.ts'
import { normalNumbers, operatorsOf, programOf, resultDistance, runOnnx, runReference } from './testing.ts'

const x = parameter('x', [2, 3])
const w = parameter('w', [3, 3])
const inputs = [x, w, parameter('square', [3, 2])]
const feed = {
  x: normalNumbers([2, 3], 'x'),
  w: normalNumbers([3, 3], 'w'),
  square: normalNumbers([3, 2], 'square'),
}

function operators(outputs: Record<string, Tensor>, dialect: Dialect = 'portable'): string[] {
  return operatorsOf(emitOnnx(programOf(outputs, inputs), { dialect }).bytes)
}

describe('emission is deterministic', () => {
  const program = (first: 'loss' | 'norm'): Program => {
    // the same program, its records and its nodes made in another order
    const input = parameter('x', [2, 3])
    const weight = parameter('w', [3, 3])
    const build = {
      loss: () => sum(tanh(matmul(input, weight))),
      norm: () => sum(mul(weight, weight)),
    }
    const early = build[first]()
    const late = build[first === 'loss' ? 'norm' : 'loss']()
    const loss = first === 'loss' ? early : late
    const norm = first === 'loss' ? late : early
    const next = sub(weight, mul(grad(loss, [weight])[0]!, 0.1))
    const outputs = first === 'loss' ? { loss, norm } : { norm, loss }
    return { name: 'step', inputs: { x: input }, state: { w: weight }, outputs, updates: { w: next } }
  }

  test.each(['portable', 'cpu'] as const)('%s: one program, one sequence of bytes', (dialect) => {
    const once = emitOnnx(program('loss'), { dialect }).bytes
    expect(emitOnnx(program('loss'), { dialect }).bytes).toEqual(once)
    expect(emitOnnx(program('norm'), { dialect }).bytes).toEqual(once)
  })

  test('inputs, state, outputs and updates are described with the bytes', () => {
    const { bytes, ...description } = emitOnnx(program('loss'), { dialect: 'cpu' })
    expect(bytes.length).toBeGreaterThan(0)
    expect(description).toEqual({
      name: 'step',
      dialect: 'cpu',
      inputs: { x: { shape: [2, 3], dtype: 'float32' } },
      state: { w: { shape: [3, 3], dtype: 'float32' } },
      outputs: { loss: { shape: [], dtype: 'float32' }, norm: { shape: [], dtype: 'float32' } },
      updates: { w: { shape: [3, 3], dtype: 'float32' } },
    })
  })

  test('placeholders, constants and one value under two names can be outputs', async () => {
    const y = exp(x)
    const program = programOf({ itself: x, five: scalar(5), a: y, b: y, ids: iota(2) }, [x])
    expect(resultDistance(await runOnnx(program, feed), runReference(program, feed))).toBeLessThan(1e-6)
  })
})

describe('the promise that updates may be written over what they replace', () => {
  const given = parameter('given', [2, 2])
  const a = parameter('a', [2, 2])
  const b = parameter('b', [2, 2])
  const emit = (updates: Record<string, Tensor>, outputs: Record<string, Tensor> = {}) => {
    const program: Program = { name: 'step', inputs: { given }, state: { a, b }, outputs, updates }
    const emitted = emitOnnx({ ...program, updatesInPlace: true }, { dialect: 'portable' })
    return { emitted, beside: emitOnnx(program, { dialect: 'portable' }) }
  }
  const norm = (...tensors: Tensor[]): Tensor =>
    tensors.map((x) => sum(mul(x, x))).reduce((x, y) => add(x, y))

  test('goes with the program and leaves its bytes alone', () => {
    const all = norm(matmul(a, given), matmul(b, given))
    const { emitted, beside } = emit({ a: sub(a, mul(given, all)), b: sub(mul(b, 0.5), all) }, { all })
    expect(emitted).toEqual({ ...beside, updatesInPlace: true })
    expect(beside).not.toHaveProperty('updatesInPlace')
  })

  const broken: Record<string, Record<string, Tensor>> = {
    'an update reads what another replaces': { a: sub(a, given), b: add(b, a) },
    'two change places': { a: b, b: a },
    'the next value needs other elements of the old one': { a: matmul(a, given) },
  }

  test.each(Object.keys(broken))('is refused where %s', (name) => {
    expect(() => emit(broken[name]!)).toThrow(/cannot be updated in place/)
  })

  test('is refused where an output reads the old value, also under another shape', () => {
    expect(() => emit({ a: sub(a, given) }, { loss: exp(reshape(a, [4])) })).toThrow(/a cannot be updated/)
    expect(() => emit({ a: sub(a, given) }, { loss: exp(a) })).toThrow(/a cannot be updated/)
  })
})

describe('emission writes nothing needless', () => {
  const cases: Record<string, [output: Tensor, operators: string[]]> = {
    'equal subgraphs once': [add(exp(mul(x, 2)), exp(mul(x, 2))), ['Mul', 'Exp', 'Add']],
    'no neutral elements': [div(mul(add(sub(x, 0), 0), 1), ones([2, 3])), ['Identity']],
    'numbers that are known': [mul(x, add(scalar(2), mul(scalar(3), 4))), ['Mul']],
    'one factor for several': [neg(mul(mul(x, 2), 3)), ['Mul']],
    'nothing for transparent nodes': [exp(stopGradient(x)), ['Exp']],
    'no reshape there and back': [exp(reshape(reshape(x, [6]), [2, 3])), ['Exp']],
    'no transpose there and back': [exp(transpose(transpose(x))), ['Exp']],
    'a reshape for a transpose that moves nothing': [
      exp(transpose(reshape(x, [2, 1, 3]), [1, 0, 2])),
      ['Reshape', 'Exp'],
    ],
    'no concat of what was split': [exp(concat(split(x, { axis: 1, parts: 3 }), { axis: 1 })), ['Exp']],
    'no slice of what was joined': [exp(slice(concat([x, x], { axis: 0 }), { axis: 0, start: 2 })), ['Exp']],
    'one slice of a slice': [slice(slice(x, { axis: 1, start: 1 }), { axis: 1, start: 1 }), ['Slice']],
    'no broadcast that the operation does itself': [
      add(x, broadcastTo(slice(x, { axis: 0, end: 1 }), [2, 3])),
      ['Slice', 'Add'],
    ],
    'no large constant where a number will do': [mul(x, add(zeros([2, 3]), 2)), ['Mul']],
    'transposes as flags of the product': [matmul(transpose(w), transpose(x)), ['Gemm']],
    'factors in the product': [mul(matmul(x, w), 0.5), ['Gemm']],
    'a bias in the product': [add(matmul(x, w), constant([1, 2, 3], [3])), ['Gemm']],
    'a row to subtract in the product': [sub(matmul(x, w), constant([1, 2, 3], [3])), ['Gemm']],
    'addends of full size beside the product, where they cost less': [
      sub(add(x, matmul(x, w)), exp(x)),
      ['MatMul', 'Add', 'Exp', 'Sub'],
    ],
  }

  test.each(Object.keys(cases))('%s', async (name) => {
    const [output, expected] = cases[name]!
    expect(operators({ output })).toEqual(expected)
    const program = programOf({ output }, inputs)
    expect(resultDistance(await runOnnx(program, feed), runReference(program, feed))).toBeLessThan(1e-6)
  })

  test('a product that others need too keeps to itself', () => {
    const product = matmul(x, w)
    expect(operators({ a: add(product, constant([1, 2, 3], [3])), b: product })).toEqual(['MatMul', 'Add'])
  })

  test('what no output needs is not written', () => {
    exp(x)
    expect(operators({ output: tanh(x) })).toEqual(['Tanh'])
  })

  test('an operand that the lowering has no use for is not written', () => {
    const ids = parameter('ids', [2], 'int32')
    const [gradient] = grad(sum(exp(gather(w, ids))), [w])
    expect(
      operatorsOf(emitOnnx(programOf({ gradient: gradient! }, [w, ids]), { dialect: 'cpu' }).bytes),
    ).toEqual(['Gather', 'Exp', 'Reshape', 'Equal', 'Cast', 'Gemm'])
  })

  test('a large mask is a handful of nodes, not a constant', () => {
    const mask = mul(ones([512, 512]), reshape(iota(512, 'float32'), [512, 1]))
    expect(emitOnnx(programOf({ mask }, []), { dialect: 'portable' }).bytes.length).toBeLessThan(4096)
  })
})

describe('gradients are written without copies', () => {
  test('of matrix products: transposed products, no Transpose', () => {
    const batches = parameter('batches', [4, 2, 3])
    const hidden = tanh(matmul(batches, w))
    const loss = sum(matmul(hidden, hidden, { transposeB: true }))
    const [dw] = grad(loss, [w])
    const program = programOf({ dw: dw! }, [batches, w])
    expect(operatorsOf(emitOnnx(program, { dialect: 'cpu' }).bytes)).not.toContain('Transpose')
  })

  test('of one weight for all positions: a single Gemm over the tall matrix', () => {
    const batches = parameter('batches', [4, 2, 3])
    const seed = parameter('seed', [4, 2, 3])
    const [dw] = grad(sum(mul(matmul(batches, w), seed)), [w])
    expect(
      operatorsOf(emitOnnx(programOf({ dw: dw! }, [batches, seed, w]), { dialect: 'portable' }).bytes),
    ).toEqual(['Reshape', 'Reshape', 'Gemm'])
  })

  test('of the parts of a tensor: joined, not padded and added', () => {
    const [a, b] = split(exp(x), { axis: 1, parts: [1, 2] }) as [Tensor, Tensor]
    const [dx] = grad(sum(mul(softmax(b), tanh(a))), [x])
    const names = operators({ dx: dx! })
    expect(names).toContain('Concat')
    expect(names).not.toContain('Pad')
  })
})

describe('rematerialisation', () => {
  const block = (h: Tensor): Tensor => matmul(exp(matmul(silu(h), w)), w)
  const gradients = (wrap: (h: Tensor) => Tensor): Record<string, Tensor> => {
    const loss = sum(tanh(wrap(mul(x, 2))))
    const [dx, dw] = grad(loss, [x, w])
    return { loss, dx: dx!, dw: dw! }
  }
  const plain = programOf(gradients(block), [x, w])
  const thrifty = programOf(
    gradients((h) => rematerialise([h], block)),
    [x, w],
  )

  test('gives the same gradients', async () => {
    const expected = runReference(plain, feed)
    expect(resultDistance(runReference(thrifty, feed), expected)).toBeLessThan(1e-12)
    for (const dialect of ['portable', 'cpu'] as const) {
      expect(resultDistance(await runOnnx(thrifty, feed, dialect), expected)).toBeLessThan(1e-5)
    }
  })

  test('computes the block twice, and merging equal nodes does not undo it', () => {
    const count = (program: Program): number =>
      operatorsOf(emitOnnx(program, { dialect: 'portable' }).bytes).filter((name) => name === 'Exp').length
    expect(count(plain)).toBe(1)
    expect(count(thrifty)).toBe(2)
  })

  test('costs nothing where no gradient is asked for', () => {
    const output = rematerialise([mul(x, 2)], block)
    expect(operators({ output })).toEqual(operators({ output: block(mul(x, 2)) }))
  })
})
