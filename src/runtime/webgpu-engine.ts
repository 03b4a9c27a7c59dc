/**
 * WebGPU through onnxruntime-node (Dawn). State tensors are GPU buffers: a session returns them with the output
 * location `gpu-buffer`, they are fed straight back, and the replaced ones are released.
 *
 * Reading a GPU tensor back by `getData` is not implemented in onnxruntime-node 1.30: it ends the process
 * ("terminate called after throwing an instance of 'char const*'"). So values cross the border through a program that
 * copies one tensor, with its output placed on the GPU to upload or on the CPU to download. And a GPU tensor must
 * not outlive the session that made it (the process ends with SIGSEGV), so a session is released only after the last
 * of its tensors.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import {
  defineProgram,
  type EmittedProgram,
  emitOnnx,
  parameter,
  type TensorSpec,
  updateName,
} from '../tensor/index.ts'
import { describeSpec } from './checks.ts'
import type { Engine, Session } from './engine.ts'
import { loadOnnxRuntimeNode, type OnnxRuntimeNode } from './onnxruntime-node.ts'
import type { HostTensor } from './types.ts'

type Place = 'cpu' | 'gpu-buffer'

export interface GpuTensor {
  readonly tensor: Tensor
  readonly maker: TensorMaker
}

/** A session and the number of GPU tensors that it made and that are still in use. */
class TensorMaker {
  readonly session: InferenceSession
  private alive = 0
  private isClosing = false

  constructor(session: InferenceSession) {
    this.session = session
  }

  made(tensor: Tensor): GpuTensor {
    this.alive++
    return { tensor, maker: this }
  }

  async release(tensor: Tensor): Promise<void> {
    tensor.dispose()
    this.alive--
    await this.releaseWhenUnused()
  }

  async close(): Promise<void> {
    this.isClosing = true
    await this.releaseWhenUnused()
  }

  private async releaseWhenUnused(): Promise<void> {
    if (this.isClosing && this.alive === 0) await this.session.release()
  }
}

export async function webgpuEngine(): Promise<Engine<GpuTensor>> {
  const ort = await loadOnnxRuntimeNode()
  const createMaker = async (bytes: Uint8Array, places: Record<string, Place>): Promise<TensorMaker> =>
    new TensorMaker(
      await ort.InferenceSession.create(bytes, {
        executionProviders: ['webgpu'],
        preferredOutputLocation: places,
        executionMode: 'sequential',
        graphOptimizationLevel: 'all',
        enableMemPattern: false,
        logSeverityLevel: 4,
      }),
    )

  const copiers = new Map<string, Promise<TensorMaker>>()
  /** One session per kind of tensor and direction; models have few distinct shapes. */
  const copyTo = async (place: Place, source: Tensor, spec: TensorSpec): Promise<GpuTensor> => {
    const key = `${place} ${describeSpec(spec)}`
    let copier = copiers.get(key)
    if (copier === undefined) {
      const source = parameter('source', spec.shape, spec.dtype)
      const program = defineProgram({
        name: 'copy',
        inputs: { source },
        state: {},
        outputs: { copy: source },
        updates: {},
      })
      copier = createMaker(emitOnnx(program, { dialect: 'portable' }).bytes, { copy: place })
      copiers.set(key, copier)
    }
    const maker = await copier
    const { copy } = await maker.session.run({ source })
    return maker.made(copy as Tensor)
  }

  return {
    name: 'webgpu',
    dialect: 'portable',
    threads: 1,
    writesWhereTold: false,
    overwritesState: false,
    upload: (value) => copyTo('gpu-buffer', hostTensor(ort, value), value),
    download: async (buffer, spec) => {
      const { tensor, maker } = await copyTo('cpu', buffer.tensor, spec)
      const data = tensor.data as HostTensor['data']
      await maker.release(tensor)
      return { dtype: spec.dtype, shape: [...spec.shape], data }
    },
    release: ({ tensor, maker }) => maker.release(tensor),
    load: async (program) => {
      const places: Record<string, Place> = {}
      for (const name of Object.keys(program.outputs)) places[name] = 'cpu'
      for (const name of Object.keys(program.updates)) places[updateName(name)] = 'gpu-buffer'
      return sessionOver(ort, await createMaker(program.bytes, places), program)
    },
    close: async () => {
      for (const copier of copiers.values()) await (await copier).close()
      copiers.clear()
    },
  }
}

const hostTensor = (ort: OnnxRuntimeNode, { dtype, data, shape }: HostTensor): Tensor =>
  new ort.Tensor(dtype, data, shape)

function sessionOver(ort: OnnxRuntimeNode, maker: TensorMaker, program: EmittedProgram): Session<GpuTensor> {
  return {
    run: async ({ inputs, state }) => {
      const feeds: Record<string, Tensor> = {}
      for (const [name, value] of Object.entries(inputs)) feeds[name] = hostTensor(ort, value)
      for (const name of Object.keys(program.state)) feeds[name] = state.get(name)!.tensor
      const results = await maker.session.run(feeds)
      const outputs: Record<string, HostTensor> = {}
      const updated = new Map<string, GpuTensor>()
      for (const [name, { dtype, shape }] of Object.entries(program.outputs)) {
        outputs[name] = { dtype, shape: [...shape], data: results[name]!.data as HostTensor['data'] }
      }
      for (const name of Object.keys(program.updates))
        updated.set(name, maker.made(results[updateName(name)] as Tensor))
      return { outputs, updated }
    },
    close: () => maker.close(),
  }
}
