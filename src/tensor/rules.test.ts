/** Mistakes throw when the graph is built and name the operation and the shapes. */
import { describe, expect, test } from 'vitest'
import { GroundswellError } from '../core/index.ts'
import {
  add,
  broadcastTo,
  causalAttention,
  concat,
  constant,
  crossEntropy,
  defineProgram,
  gather,
  gatherElements,
  gemm,
  interpret,
  iota,
  logicalNot,
  matmul,
  mean,
  mul,
  type Program,
  parameter,
  reshape,
  rmsNorm,
  rope,
  scalar,
  scatterAdd,
  scatterElementsAdd,
  slice,
  softmax,
  split,
  sum,
  type Tensor,
  topK,
  transpose,
  where,
  zeros,
} from './index.ts'

const x = parameter('x', [2, 3])
const y = parameter('y', [4, 5])
const ids = parameter('ids', [2], 'int32')

const mistakes: [name: string, code: string, message: RegExp, build: () => unknown][] = [
  [
    'add',
    'tensor/shape',
    /add: shapes do not broadcast, axis 1 has lengths 3 and 5 \(float32\[2,3\], float32\[2,5\]\)/,
    () => add(x, zeros([2, 5])),
  ],
  ['add', 'tensor/dtype', /add: needs equal dtypes \(float32\[2,3\], int32\[2\]\)/, () => add(x, ids)],
  ['softmax', 'tensor/dtype', /softmax: needs float32 \(int32\[2\]\)/, () => softmax(ids)],
  ['logicalNot', 'tensor/dtype', /logicalNot: needs bool/, () => logicalNot(x)],
  ['where', 'tensor/dtype', /where: the condition must be bool/, () => where(x, x, x)],
  [
    'matmul',
    'tensor/shape',
    /matmul: inner lengths 3 and 4 differ \(float32\[2,3\], float32\[4,5\]\)/,
    () => matmul(x, y),
  ],
  ['matmul', 'tensor/shape', /matmul: needs factors of two axes or more/, () => matmul(x, scalar(1))],
  [
    'matmul',
    'tensor/shape',
    /matmul: shapes do not broadcast/,
    () => matmul(zeros([2, 3, 3]), zeros([3, 3, 3])),
  ],
  [
    'gemm',
    'tensor/shape',
    /gemm: c does not broadcast to \[2,2\]/,
    () => gemm({ a: x, b: x, c: zeros([1, 2, 2]), transposeB: true }),
  ],
  [
    'gemm',
    'tensor/shape',
    /gemm: c does not broadcast to \[1,1\]/,
    () => gemm({ a: zeros([1, 3]), b: zeros([3, 1]), c: zeros([2, 1]) }),
  ],
  [
    'reshape',
    'tensor/shape',
    /reshape: cannot give 6 elements the shape \[4\] \(float32\[2,3\]\)/,
    () => reshape(x, [4]),
  ],
  ['reshape', 'tensor/shape', /reshape: no length for −1 in \[4,-1\] fits/, () => reshape(x, [4, -1])],
  ['transpose', 'tensor/shape', /transpose: \[0,0\] is no permutation/, () => transpose(x, [0, 0])],
  [
    'slice',
    'tensor/shape',
    /slice: \[1, 4\) is outside axis 1 of length 3/,
    () => slice(x, { axis: 1, start: 1, end: 4 }),
  ],
  [
    'split',
    'tensor/shape',
    /split: axis 1 of length 3 is not the sum of 2/,
    () => split(x, { axis: 1, parts: 2 }),
  ],
  ['concat', 'tensor/shape', /concat: shapes differ beside axis 0/, () => concat([x, y], { axis: 0 })],
  ['broadcastTo', 'tensor/shape', /broadcastTo/, () => broadcastTo(x, [2, 1])],
  [
    'sum',
    'tensor/shape',
    /sum: axis 2 is outside the tensor \(float32\[2,3\]\)/,
    () => sum(x, { axes: [2] }),
  ],
  ['mean', 'tensor/shape', /mean: axes \[0,-2\] name an axis twice/, () => mean(x, { axes: [0, -2] })],
  ['gather', 'tensor/dtype', /gather: needs int32/, () => gather(x, x)],
  [
    'gatherElements',
    'tensor/shape',
    /gatherElements: indices must have/,
    () => gatherElements(x, ids, { axis: 1 }),
  ],
  [
    'scatterAdd',
    'tensor/shape',
    /scatterAdd: updates must be one row/,
    () => scatterAdd(x, ids, zeros([3, 3])),
  ],
  [
    'topK',
    'tensor/shape',
    /topK: cannot take the largest 4 of the last axis \(float32\[2,3\]\)/,
    () => topK(x, 4),
  ],
  ['constant', 'tensor/shape', /constant: 2 values do not fill \[3\]/, () => constant([1, 2], [3])],
  ['parameter', 'tensor/shape', /parameter w: \[2,-1\] is no shape/, () => parameter('w', [2, -1])],
  [
    'parameter',
    'tensor/shape',
    /parameter w: \[2,0\] is no shape; lengths are whole and positive/,
    () => parameter('w', [2, 0]),
  ],
  ['constant', 'tensor/shape', /constant: \[0\] is no shape/, () => constant([], [0])],
  ['full', 'tensor/shape', /full: \[0,3\] is no shape/, () => zeros([0, 3])],
  ['reshape', 'tensor/shape', /reshape: no length for −1 in \[0,-1\] fits/, () => reshape(x, [0, -1])],
  ['broadcastTo', 'tensor/shape', /broadcastTo: \[0,3\] is no shape/, () => broadcastTo(ids, [0, 3])],
  [
    'slice',
    'tensor/shape',
    /slice: \[1, 1\) holds nothing of axis 1 of length 3 \(float32\[2,3\]\)/,
    () => slice(x, { axis: 1, start: 1, end: 1 }),
  ],
  [
    'split',
    'tensor/shape',
    /slice: \[0, 0\) holds nothing of axis 1 of length 3/,
    () => split(x, { axis: 1, parts: [0, 3] }),
  ],
  ['rope', 'tensor/shape', /rope: needs a last axis of even length \(float32\[2,3\]\)/, () => rope(x)],
  [
    'rmsNorm',
    'tensor/shape',
    /rmsNorm: the weight must have one element per/,
    () => rmsNorm(x, zeros([2]), 0),
  ],
  [
    'crossEntropy',
    'tensor/shape',
    /crossEntropy: needs one target for each position/,
    () => crossEntropy(x, iota(3)),
  ],
  [
    'causalAttention',
    'tensor/shape',
    /causalAttention: key heads do not divide the query heads/,
    () => causalAttention({ q: zeros([1, 3, 2, 2]), k: zeros([1, 2, 2, 2]), v: zeros([1, 2, 2, 2]) }),
  ],
]

describe('a mistake is reported where it is made', () => {
  test.each(mistakes)('%s, %s: %s', (_, code, message, build) => {
    const thrown = capture(build)
    expect(thrown.message).toMatch(message)
    expect(thrown.code).toBe(code)
    expect(thrown.remedy).toBeDefined()
  })
})

const whole: Program = { name: 'p', inputs: { x }, state: {}, outputs: { z: x }, updates: {} }

describe.each([-1, 3])('an index %i into a length of 3', (index) => {
  const row = zeros([2, 3])
  const column = zeros([2, 1])
  const uses: [string, readonly number[], (at: Tensor) => Tensor][] = [
    ['gather', [2], (at) => gather(zeros([3, 1]), at)],
    ['scatterAdd', [2], (at) => scatterAdd(zeros([3, 1]), at, column)],
    ['gatherElements', [2, 1], (at) => gatherElements(row, at, { axis: 1 })],
    ['scatterElementsAdd', [2, 1], (at) => scatterElementsAdd(row, at, column, { axis: 1 })],
  ]

  test.each(uses)('is refused by %s where it is known, and else by the interpreter', (name, shape, use) => {
    const outside = `${name}: index ${index} is outside length 3`
    expect(() => use(constant([0, index], shape, 'int32'))).toThrow(outside)
    const at = parameter('at', shape, 'int32')
    const program: Program = { ...whole, inputs: { at }, outputs: { z: use(at) } }
    const run = (data: number[]) => () => interpret(program, { inputs: { at: { shape, data } } })
    expect(run([0, index])).toThrow(outside)
    expect(run([0, 2])).not.toThrow()
  })
})

const brokenPrograms: [problem: RegExp, program: Program][] = [
  [
    /program p: the placeholder ids is used but is neither an input nor state/,
    { ...whole, outputs: { z: ids } },
  ],
  [/program p: z is both a placeholder and an output/, { ...whole, inputs: { x, z: parameter('z', []) } }],
  [/program p: x is both an input and state/, { ...whole, state: { x } }],
  [/program p: the placeholder x stands under other/, { ...whole, inputs: { other: x } }],
  [/program p: x is not a placeholder but a mul/, { ...whole, inputs: { x: mul(x, 2) } }],
  [/program p: the update of x has no state/, { ...whole, updates: { x } }],
  [
    /program p: the update of w is float32\[2,3\], the state float32\[3\]/,
    { ...whole, state: { w: parameter('w', [3]) }, updates: { w: x } },
  ],
  [
    /program p: the placeholder x is used as float32\[1\] and declared as/,
    { ...whole, outputs: { z: parameter('x', [1]) } },
  ],
  [/program p: it has neither outputs nor updates/, { ...whole, outputs: {} }],
  [
    /program p: the output next.w is named twice/,
    {
      ...whole,
      state: { w: parameter('w', [2, 3]) },
      outputs: { 'next.w': x },
      updates: { w: x },
    },
  ],
  [/program p: "%x" is no name/, { ...whole, outputs: { '%x': x } }],
]

describe('a program that is not whole is refused', () => {
  test.each(brokenPrograms)('%s', (problem, program) => {
    const thrown = capture(() => defineProgram(program))
    expect(thrown.message).toMatch(problem)
    expect(thrown.code).toBe('tensor/program')
  })

  test('the interpreter names a placeholder without a value, or with the wrong one', () => {
    expect(() => interpret(whole, {})).toThrow(/placeholder x has no value/)
    expect(() => interpret(whole, { inputs: { x: { shape: [3], data: [1, 2, 3] } } })).toThrow(
      /program p: x is float32\[2,3\], fed with 3 numbers as \[3\]/,
    )
  })
})

function capture(build: () => unknown): GroundswellError {
  try {
    build()
  } catch (thrown) {
    if (thrown instanceof GroundswellError) return thrown
    throw thrown
  }
  throw new Error('nothing was thrown')
}
