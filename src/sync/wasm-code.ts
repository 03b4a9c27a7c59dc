/**
 * Just enough of WebAssembly's binary format (https://webassembly.github.io/spec/core/binary/) to write one loop over
 * pairs of float64 by the vector instructions: straight-line code on named values, for a memory that is handed in.
 * Vector instructions of WebAssembly round as JavaScript's numbers do, lane by lane.
 */

/** A local variable that holds two float64. */
export type Pair = number

const opcode = {
  ...{ loop: 0x03, end: 0x0b, branchIf: 0x0d, localGet: 0x20, localSet: 0x21 },
  ...{ i32Const: 0x41, i32NotEqual: 0x47, i32Add: 0x6a, vector: 0xfd },
} as const
const vectorOpcode = {
  ...{ load: 0x00, store: 0x0b, const: 0x0c, shuffle: 0x0d, add: 0xf0, sub: 0xf1, mul: 0xf2 },
} as const
const type = { i32: 0x7f, v128: 0x7b, function: 0x60, noResult: 0x40 } as const
const section = { type: 1, import: 2, function: 3, export: 7, code: 10 } as const
/** Of the function: parameters, and where the loop ends. */
const local = { source: 0, target: 1, end: 2, firstPair: 3 } as const
const laneBytes = 8

/** Which bytes of two vectors make up one of their first, or one of their second lanes. */
const lanes = [0, 1].map((lane) =>
  [0, 16].flatMap((vector) => Array.from({ length: laneBytes }, (_, i) => vector + lane * laneBytes + i)),
)

/** The body of the loop, as it is written. A pair that is not needed any more is to be released. */
export class LoopBody {
  readonly bytes: number[] = []
  private readonly free: Pair[] = []
  private pairs = 0

  /** How many locals it needs. */
  get pairCount(): number {
    return this.pairs
  }

  release(...pairs: readonly Pair[]): void {
    this.free.push(...pairs)
  }

  /** What lies so many bytes after the loop's place in the source. */
  load(offset: number): Pair {
    this.get(local.source)
    this.vector(vectorOpcode.load, 3, ...unsigned(offset))
    return this.set()
  }

  zero(): Pair {
    this.vector(vectorOpcode.const, ...new Array<number>(2 * laneBytes).fill(0))
    return this.set()
  }

  add(a: Pair, b: Pair): Pair {
    return this.binary(vectorOpcode.add, a, b)
  }

  subtract(a: Pair, b: Pair): Pair {
    return this.binary(vectorOpcode.sub, a, b)
  }

  /** By the pair at an address of the memory, which is never in reach of a source. */
  multiply(a: Pair, address: number): Pair {
    this.get(a)
    this.bytes.push(opcode.i32Const, 0)
    this.vector(vectorOpcode.load, 3, ...unsigned(address))
    this.vector(vectorOpcode.mul)
    return this.set()
  }

  /** Two of the same lane, one of `a` and one of `b`, to so many bytes after the loop's place in the target. */
  storeLanes(lane: 0 | 1, a: Pair, b: Pair, offset: number): void {
    this.get(local.target)
    this.get(a)
    this.get(b)
    this.vector(vectorOpcode.shuffle, ...lanes[lane]!)
    this.vector(vectorOpcode.store, 3, ...unsigned(offset))
  }

  private binary(code: number, a: Pair, b: Pair): Pair {
    this.get(a)
    this.get(b)
    this.vector(code)
    return this.set()
  }

  private vector(code: number, ...operands: readonly number[]): void {
    this.bytes.push(opcode.vector, ...unsigned(code), ...operands)
  }

  private get(index: number): void {
    this.bytes.push(opcode.localGet, ...unsigned(index))
  }

  private set(): Pair {
    const pair = this.free.pop() ?? local.firstPair + this.pairs++
    this.bytes.push(opcode.localSet, ...unsigned(pair))
    return pair
  }
}

export interface LoopSteps {
  readonly times: number
  /** Bytes by which the places in source and target move on. */
  readonly sourceStep: number
  readonly targetStep: number
}

/** A module that takes `memory.memory` and exports `run(source, target)`: the loop from two addresses on. */
export function loopModule(
  body: LoopBody,
  { times, sourceStep, targetStep }: LoopSteps,
): Uint8Array<ArrayBuffer> {
  const get = (index: number): number[] => [opcode.localGet, ...unsigned(index)]
  const set = (index: number): number[] => [opcode.localSet, ...unsigned(index)]
  const moved = (index: number, bytes: number): number[] => [
    ...[...get(index), opcode.i32Const, ...signed(bytes), opcode.i32Add],
  ]
  const code = [
    ...vectorOf([
      [...unsigned(1), type.i32],
      [...unsigned(body.pairCount), type.v128],
    ]),
    ...[...moved(local.source, times * sourceStep), ...set(local.end)],
    ...[opcode.loop, type.noResult],
    ...body.bytes,
    ...[...moved(local.target, targetStep), ...set(local.target)],
    ...[...moved(local.source, sourceStep), ...set(local.source)],
    ...[...get(local.source), ...get(local.end), opcode.i32NotEqual, opcode.branchIf, 0],
    ...[opcode.end, opcode.end],
  ]
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // “\0asm”, version 1
    ...sectionOf(section.type, [[type.function, ...vectorOf([[type.i32], [type.i32]]), 0]]),
    ...sectionOf(section.import, [[...nameOf('memory'), ...nameOf('memory'), 2, 0, 1]]),
    ...sectionOf(section.function, [[0]]),
    ...sectionOf(section.export, [[...nameOf('run'), 0, 0]]),
    ...sectionOf(section.code, [[...unsigned(code.length), ...code]]),
  ])
}

function sectionOf(id: number, entries: readonly (readonly number[])[]): number[] {
  const content = vectorOf(entries)
  return [id, ...unsigned(content.length), ...content]
}

function vectorOf(entries: readonly (readonly number[])[]): number[] {
  return [...unsigned(entries.length), ...entries.flat()]
}

function nameOf(text: string): number[] {
  const bytes = new TextEncoder().encode(text)
  return [...unsigned(bytes.length), ...bytes]
}

/** LEB128 of a whole number from 0. */
function unsigned(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128)
  return [...bytes, rest]
}

/** LEB128 of a whole number from 0 where a sign is expected: the last byte must not look like a negative one. */
function signed(value: number): number[] {
  const bytes = unsigned(value)
  const last = bytes.at(-1)!
  return last < 64 ? bytes : [...bytes.slice(0, -1), last + 128, 0]
}
