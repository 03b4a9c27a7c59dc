/** Signum with majority vote (Bernstein et al. 2018, https://arxiv.org/abs/1802.04434): a bit per parameter and step. */
import { diverged } from '../../src/sync/dense-update.ts'
import type { SyncMethod, TensorLayout } from '../../src/sync/index.ts'
import { arrayFormat, type FlatState, requireSize } from '../../src/sync/state-format.ts'
import * as wire from '../../src/sync/wire.ts'

type Signs = Uint8Array // bit i: parameter i is to grow

const version = 1
const method = 'example'
const state = arrayFormat({ magic: 'GSST', method, version })
const local = arrayFormat({ magic: 'GSLO', method, version })
const updateBytes = ({ totalSize }: TensorLayout): number => wire.frameBytes + Math.ceil(totalSize / 8)
const frame = ({ totalSize }: TensorLayout): wire.Frame => {
  return { magic: 'GSUP', method, version, variant: 1, part: 0, count: totalSize }
}

export function signVote(options: { readonly momentum: number }): SyncMethod<FlatState, FlatState, Signs> {
  const { momentum } = options
  return {
    id: `sign-vote/${version}`,
    quantity: 'gradient',
    ...{ innerSteps: 1, overlapSteps: 0, replicated: true },
    ...{ stateBytes: state.bytes, maximumUpdateBytes: updateBytes },
    ...{ serialiseState: state.write, parseState: state.read },
    ...{ serialiseLocal: local.write, parseLocal: local.read },

    createState: (layout, parameters) => ({ layout, values: parameters.slice() }),
    createLocal: (layout) => ({ layout, values: new Float32Array(layout.totalSize) }),
    parameters: ({ values }) => values,
    startRound: ({ values }) => values,

    encodeUpdate: (input, layout) => {
      requireSize(input.values, layout)
      if (!wire.allWithin(input.values, wire.largestMagnitude)) throw diverged()
      const before = input.local.values
      const values = input.values.map((g, i) => momentum * before[i]! + (1 - momentum) * g)
      const bytes = new Uint8Array(updateBytes(layout))
      wire.writeFrame(bytes, frame(layout))
      const signs = bytes.subarray(wire.frameBytes)
      for (const [i, m] of values.entries()) if (m < 0) signs[i >> 3] = signs[i >> 3]! | (1 << (i & 7))
      return { bytes, local: { layout, values } }
    },
    decodeUpdate: (bytes, layout) => {
      wire.expectFrame(bytes, { ...frame(layout), totalBytes: updateBytes(layout) }, wire.refusedUpdate)
      return bytes.slice(wire.frameBytes)
    },
    updateNorm: (signs) => Math.sqrt(8 * signs.length),

    merge: ({ layout, values }, contributions, { learningRate }) => {
      const next = values.map((value, i) => {
        let vote = 0
        for (const { update, weight: w } of contributions) vote += (update[i >> 3]! >> (i & 7)) & 1 ? w : -w
        return value + learningRate * Math.sign(vote)
      })
      return { layout, values: next }
    },
  }
}
