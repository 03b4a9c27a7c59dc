/** Signum with majority vote (Bernstein et al. 2018, https://arxiv.org/abs/1802.04434): a bit per parameter and step. */
import { inParts } from '../../src/core/index.ts'
import { diverged } from '../../src/sync/dense-update.ts'
import type { SyncMethod, TensorLayout } from '../../src/sync/method.ts'
import { arrayFormat, type FlatState, requireSize } from '../../src/sync/state-format.ts'
import { tensorByTensor } from '../../src/sync/tensor-by-tensor.ts'
import * as wire from '../../src/sync/wire.ts'

type Signs = Uint8Array // bit i: parameter i is to grow
const format = { method: 'example', version: 1 } as const
const state = arrayFormat({ ...format, magic: 'GSST' })
const local = arrayFormat({ ...format, magic: 'GSLO' })
const header = { ...format, magic: 'GSUP', variant: 1, part: 0 } as const
const frame = ({ totalSize: count }: TensorLayout): wire.Frame => ({ ...header, count })
const updateBytes = ({ totalSize }: TensorLayout): number => wire.frameBytes + Math.ceil(totalSize / 8)

export function signVote({ momentum }: { momentum: number }): SyncMethod<FlatState, FlatState, Signs> {
  return {
    id: `sign-vote/${format.version}`,
    quantity: 'gradient',
    ...{ innerSteps: 1, overlapSteps: 0, replicated: true },
    ...{ stateBytes: state.bytes, maximumUpdateBytes: updateBytes },
    ...{ serialiseState: state.write, parseState: state.read },
    ...{ serialiseLocal: local.write, parseLocal: local.read },

    createState: (layout, parameters) => ({ layout, values: parameters.slice() }),
    createLocal: (layout) => ({ layout, values: new Float32Array(layout.totalSize) }),
    parameters: ({ values }) => values,
    startRound: ({ values }) => values,

    encodeUpdate: inParts(function* (input, layout) {
      requireSize(input.values, layout)
      if (!wire.allWithin(input.values, wire.largestMagnitude)) throw diverged()
      const bytes = new Uint8Array(updateBytes(layout))
      wire.writeFrame(bytes, frame(layout))
      const signs = bytes.subarray(wire.frameBytes)
      const values = input.local.values.slice()
      yield* tensorByTensor(layout, (i) => {
        values[i] = momentum * values[i]! + (1 - momentum) * input.values[i]!
        if (values[i]! < 0) signs[i >> 3]! |= 1 << (i & 7)
      })
      return { bytes, local: { layout, values } }
    }),
    decodeUpdate: (bytes, layout) => {
      wire.expectFrame(bytes, { ...frame(layout), totalBytes: updateBytes(layout) }, wire.refusedUpdate)
      return bytes.slice(wire.frameBytes)
    },
    updateNorm: (signs) => Math.sqrt(8 * signs.length),
    merge: inParts(function* ({ layout, values: before }, contributions, { learningRate }) {
      const values = before.slice()
      yield* tensorByTensor(layout, (i) => {
        let vote = 0
        for (const { update, weight: w } of contributions) vote += (update[i >> 3]! >> (i & 7)) & 1 ? w : -w
        values[i]! += learningRate * Math.sign(vote)
      })
      return { layout, values }
    }),
  }
}
