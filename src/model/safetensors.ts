/**
 * The safetensors format (https://github.com/huggingface/safetensors#format): eight bytes with the header's length,
 * a JSON header that says where each tensor lies, and the tensors' bytes without gaps, little-endian as every
 * machine that ONNX Runtime supports.
 *
 * Files may come from anyone, so the header is checked as a whole before a tensor is read: its length against the
 * file and a limit, every range against the file, its neighbours and the tensor's shape.
 */
import { z } from 'zod'
import { type Files, fileNotFound, GroundswellError, throwIfAborted } from '../core/index.ts'
import { sizeOf } from '../tensor/index.ts'
import { bfloat16ToFloat32, float16ToFloat32 } from './floats.ts'
import type { Parameter, Parameters } from './parameters.ts'

/** The longest header that is read, as in the reference implementation. */
export const maxSafetensorsHeaderBytes = 100_000_000

const bytesPerElement: Readonly<Record<string, number>> = {
  ...{ BOOL: 1, U8: 1, I8: 1, F8_E4M3: 1, F8_E5M2: 1 },
  ...{ U16: 2, I16: 2, F16: 2, BF16: 2 },
  ...{ U32: 4, I32: 4, F32: 4 },
  ...{ U64: 8, I64: 8, F64: 8 },
}

/** Where a tensor lies in a file. */
export interface SafetensorsEntry {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  /** From the start of the file. */
  readonly offset: number
  readonly sizeBytes: number
}

export interface SafetensorsHeader {
  readonly path: string
  /** In the order of their bytes. */
  readonly entries: readonly SafetensorsEntry[]
  /** Free text by key; `format` says which framework wrote the file. */
  readonly metadata: Readonly<Record<string, string>>
}

const entrySchema = z.strictObject({
  dtype: z.string().max(16),
  shape: z.array(z.int().min(0)).max(32),
  data_offsets: z.tuple([z.int().min(0), z.int().min(0)]),
})
const metadataSchema = z.record(z.string(), z.string())

/**
 * Reads and checks the header of a file, without its tensors.
 * @throws GroundswellError `file/not-found`, `safetensors/truncated`, `safetensors/malformed`
 */
export async function readSafetensorsHeader(files: Files, path: string): Promise<SafetensorsHeader> {
  const sizeBytes = (await files.list(path))[0]?.sizeBytes
  if (sizeBytes === undefined) throw fileNotFound(path)
  if (sizeBytes < 8) throw truncated(path, `holds ${sizeBytes} bytes, too few for a header`)
  const prefix = await files.read(path, { offset: 0, length: 8 })
  const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true))
  if (headerBytes > maxSafetensorsHeaderBytes) {
    throw malformed(path, `claims a header of ${headerBytes} bytes, above ${maxSafetensorsHeaderBytes}`)
  }
  if (8 + headerBytes > sizeBytes) {
    throw truncated(path, `claims a header of ${headerBytes} bytes but ends after ${sizeBytes}`)
  }
  const dataStart = 8 + headerBytes
  const header = parseHeader(path, await files.read(path, { offset: 8, length: headerBytes }), dataStart)
  checkRanges(header, dataStart, sizeBytes)
  return header
}

/** Reads one tensor as float32. */
export async function readSafetensorsTensor(
  files: Files,
  path: string,
  entry: SafetensorsEntry,
): Promise<Parameter> {
  const { name, dtype, shape, offset, sizeBytes } = entry
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new GroundswellError(`Tensor “${name}” in “${path}” is of type ${dtype}.`, {
      code: 'safetensors/unsupported',
      remedy: 'Use a checkpoint in F32, F16 or BF16.',
    })
  }
  const bytes = aligned(await files.read(path, { offset, length: sizeBytes }))
  if (bytes.byteLength !== sizeBytes) {
    throw truncated(path, `ended inside tensor “${name}” while it was read`)
  }
  if (dtype === 'F32') return { shape, data: new Float32Array(bytes.buffer, bytes.byteOffset, sizeBytes / 4) }
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, sizeBytes / 2)
  return { shape, data: dtype === 'F16' ? float16ToFloat32(halves) : bfloat16ToFloat32(halves) }
}

/** Reads every tensor of a file as float32, one at a time. */
export async function readSafetensors(
  files: Files,
  path: string,
  options: { readonly signal?: AbortSignal } = {},
): Promise<{ tensors: Parameters; metadata: Readonly<Record<string, string>> }> {
  const header = await readSafetensorsHeader(files, path)
  const tensors: [string, Parameter][] = []
  for (const entry of header.entries) {
    throwIfAborted(options.signal)
    tensors.push([entry.name, await readSafetensorsTensor(files, path, entry)])
  }
  return { tensors: Object.fromEntries(tensors), metadata: header.metadata }
}

/**
 * A safetensors file of float32 tensors, in pieces that are not copied. Ordered by name with sorted metadata, as
 * the Python library does it, so that the same tensors always give the same bytes.
 */
export function safetensorsChunks(
  tensors: Parameters,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Uint8Array[] {
  const names = Object.keys(tensors).sort()
  const header: [string, unknown][] = []
  if (Object.keys(metadata).length > 0) {
    header.push(['__metadata__', Object.fromEntries(Object.entries(metadata).sort(byKey))])
  }
  let offset = 0
  for (const name of names) {
    const { shape, data } = tensors[name]!
    if (sizeOf(shape) !== data.length || name === '__metadata__') {
      throw new RangeError(`tensor “${name}” of shape [${shape.join(', ')}] holds ${data.length} numbers`)
    }
    header.push([name, { dtype: 'F32', shape, data_offsets: [offset, offset + data.byteLength] }])
    offset += data.byteLength
  }
  // Not JSON.stringify of an object: keys that look like numbers would lose their place.
  const fields = header.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
  const json = new TextEncoder().encode(`{${fields.join(',')}}`)
  // Spaces up to a multiple of eight, so that tensors are aligned for readers that map the file.
  const head = new Uint8Array(8 + Math.ceil(json.byteLength / 8) * 8).fill(0x20)
  new DataView(head.buffer).setBigUint64(0, BigInt(head.byteLength - 8), true)
  head.set(json, 8)
  return [head, ...names.map((name) => bytesOf(tensors[name]!.data))]
}

/** Writes float32 tensors as one safetensors file. */
export async function writeSafetensors(
  files: Files,
  path: string,
  tensors: Parameters,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  await files.write(path, safetensorsChunks(tensors, metadata))
}

/** Parses a header whose tensors' bytes begin at `dataStart`, and checks each entry by itself. */
function parseHeader(path: string, bytes: Uint8Array, dataStart: number): SafetensorsHeader {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch (cause) {
    throw malformed(path, 'has a header that is not JSON', cause)
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw malformed(path, 'has a header that is not a JSON object')
  }
  let metadata: Record<string, string> = {}
  const entries: SafetensorsEntry[] = []
  for (const [name, value] of Object.entries(json)) {
    if (name === '__metadata__') {
      const parsed = metadataSchema.safeParse(value)
      if (!parsed.success) throw malformed(path, 'has metadata that is not text by key')
      metadata = parsed.data
      continue
    }
    const parsed = entrySchema.safeParse(value)
    if (!parsed.success) {
      throw malformed(path, `describes tensor “${clip(name)}” without a dtype, a shape and two offsets`)
    }
    const { dtype, shape, data_offsets } = parsed.data
    const width = Object.hasOwn(bytesPerElement, dtype) ? bytesPerElement[dtype] : undefined
    if (width === undefined) throw malformed(path, `gives tensor “${clip(name)}” an unknown type ${dtype}`)
    const sizeBytes = data_offsets[1] - data_offsets[0]
    if (sizeBytes !== sizeOf(shape) * width) {
      throw malformed(
        path,
        `gives tensor “${clip(name)}” ${sizeBytes} bytes where ${dtype} [${shape.join(', ')}] takes ` +
          `${sizeOf(shape) * width}`,
      )
    }
    entries.push({ name, dtype, shape, offset: dataStart + data_offsets[0], sizeBytes })
  }
  entries.sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes)
  return { path, metadata, entries }
}

/** Checks that the tensors fill the file from `dataStart` to its end: no gap, no overlap, nothing left over. */
function checkRanges(header: SafetensorsHeader, dataStart: number, fileBytes: number): void {
  let end = dataStart
  for (const { name, offset, sizeBytes } of header.entries) {
    if (offset !== end) {
      const problem = offset < end ? 'overlaps another' : 'leaves a gap before it'
      throw malformed(header.path, `has a tensor “${clip(name)}” that ${problem}`)
    }
    end += sizeBytes
    if (end > fileBytes) {
      throw truncated(
        header.path,
        `ends after ${fileBytes} bytes, inside tensor “${clip(name)}”, which reaches to ${end}`,
      )
    }
  }
  if (end !== fileBytes) throw malformed(header.path, `has ${fileBytes - end} bytes after its last tensor`)
}

/** The same bytes at an address that a Float32Array may start at. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes)
}

function bytesOf(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}

function byKey(one: [string, string], other: [string, string]): number {
  return one[0] < other[0] ? -1 : 1
}

/** Names from a file may be anything, also a megabyte long. */
function clip(name: string): string {
  return name.length > 120 ? `${name.slice(0, 120)}…` : name
}

function truncated(path: string, what: string): GroundswellError {
  return new GroundswellError(`“${path}” is cut short: it ${what}.`, {
    code: 'safetensors/truncated',
    remedy: 'Copy or download the file again.',
  })
}

function malformed(path: string, what: string, cause?: unknown): GroundswellError {
  return new GroundswellError(`“${path}” is not a sound safetensors file: it ${what}.`, {
    code: 'safetensors/malformed',
    remedy: 'Copy or download the file again, or write it anew with the program that made it.',
    cause,
  })
}
